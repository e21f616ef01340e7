package sign_test

import (
	"errors"
	"fmt"
	"time"

	"realtorbot-relay/sign"
)

func ExampleRealtorBot() {
	secret := sign.NewSecret("Jefe")
	body := []byte("what do ya want for nothing?")

	signature := sign.RealtorBot(nil, secret, body)
	fmt.Printf("X-RealtorBot-Signature: %s\n", signature)
	// Output:
	// X-RealtorBot-Signature: 5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843
}

func ExampleVerifyRealtorBot() {
	current, previous := sign.NewSecret("new one"), sign.NewSecret("Jefe")
	body := []byte("what do ya want for nothing?")
	header := "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"

	fmt.Println(sign.VerifyRealtorBot(header, body, current, previous))
	fmt.Println(sign.VerifyRealtorBot(header, append(body, '\n'), current, previous))
	// Output:
	// <nil>
	// signature does not match
}

func ExampleStandard() {
	key, err := sign.ParseStandardKey(sign.NewSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
	if err != nil {
		fmt.Println(err)
		return
	}
	const id, unix = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
	body := []byte(`{"test": 2432232314}`)

	fmt.Printf("webhook-id: %s\n", id)
	fmt.Printf("webhook-timestamp: %d\n", unix)
	fmt.Printf("webhook-signature: %s\n", sign.Standard(nil, []sign.StandardKey{key}, id, unix, body))
	// Output:
	// webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek
	// webhook-timestamp: 1614265330
	// webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=
}

func ExampleVerifyStandard() {
	key, err := sign.ParseStandardKey(sign.NewSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
	if err != nil {
		fmt.Println(err)
		return
	}
	header := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	verify := func(now time.Time) error {
		return sign.VerifyStandard(header, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330",
			[]byte(`{"test": 2432232314}`), now, 5*time.Minute, key)
	}

	fmt.Println(verify(time.Unix(1614265390, 0)))
	fmt.Println(errors.Is(verify(time.Unix(1614268930, 0)), sign.ErrTimestampTooOld))
	// Output:
	// <nil>
	// true
}
