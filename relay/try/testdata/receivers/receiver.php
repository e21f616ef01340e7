<?php // A receiver that verifies the bytes as they were received. Start: SECRET=… php -S 127.0.0.1:3000 receiver.php
$secret = getenv('SECRET');
if ($secret === false || $secret === '') {
    http_response_code(500); // an empty key would let anyone sign
    exit('SECRET is not set');
}

$body = file_get_contents('php://input');
$expected = hash_hmac('sha256', $body, $secret);
$ok = hash_equals($expected, $_SERVER['HTTP_X_REALTORBOT_SIGNATURE'] ?? '');
file_put_contents('php://stdout', ($ok ? 'ok ' . json_decode($body)->id : 'bad') . "\n");
http_response_code($ok ? 200 : 401);
