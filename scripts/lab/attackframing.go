package main

import (
	"fmt"
	"strings"
)

// framingCases are requests that two programs on their way may read in two ways: each with a second request behind it, which gets in where
// the first is taken for shorter than somebody else takes it. Nothing of them may. The controls are those that all read alike, and get
// in with the second.
func framingCases() (refused, controls []attackCase) {
	const line, host, kind = "POST /open HTTP/1.1\r\n", "Host: localhost\r\n", "Content-Type: application/json\r\n"
	const length, chunked = "Content-Length: 25\r\n", "Transfer-Encoding: chunked\r\n"
	const head = line + host + kind
	const body, chunks = attackEvent, "19\r\n" + attackEvent + "\r\n0\r\n\r\n"
	second := posting("/open", "", attackEvent)
	add := func(what, request string) {
		refused = append(refused, attackCase{name: what, request: request + second})
	}
	same := func(what, request string) {
		controls = append(controls, attackCase{name: "control: " + what, request: request + second, status: 200})
	}
	same("a length", head+length+"\r\n"+body)
	same("chunks", head+chunked+"\r\n"+chunks)
	same("an extension", head+chunked+"\r\n19;a=\"b\"\r\n"+chunks[4:])
	same("trailers", head+chunked+"\r\n"+chunks[:len(chunks)-2]+"X: y\r\n\r\n")
	same("many digits", head+chunked+"\r\n0000000019\r\n"+chunks[4:])
	same("blanks around a length", head+"content-length: \t25 \r\n\r\n"+body)
	same("a coding in capitals", head+"TRANSFER-ENCODING: Chunked\r\n\r\n"+chunks)

	// Every byte that a name can't have, in one and in those that frame.
	for c := range 256 {
		if letter := c|0x20 >= 'a' && c|0x20 <= 'z' && c < 0x80; letter || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~:\n", byte(c)) >= 0 {
			continue
		}
		by := string([]byte{byte(c)})
		add(fmt.Sprintf("byte %#x in a name", c), head+"X"+by+"Y: 1\r\n"+length+"\r\n"+body)
		add(fmt.Sprintf("byte %#x behind the name of the length", c), head+"Content-Length"+by+": 25\r\n\r\n"+body)
		add(fmt.Sprintf("byte %#x behind the name of the coding", c), head+"Transfer-Encoding"+by+": chunked\r\n\r\n"+chunks)
	}
	// Every byte that is neither a digit nor begins extensions or ends the line, around the size of a chunk.
	for c := range 256 {
		if strings.IndexByte("0123456789abcdefABCDEF;\r\n", byte(c)) >= 0 {
			continue
		}
		by := string([]byte{byte(c)})
		add(fmt.Sprintf("byte %#x behind a size", c), head+chunked+"\r\n19"+by+"\r\n"+chunks[4:])
		if c != ' ' && c != '\t' {
			add(fmt.Sprintf("byte %#x before a size", c), head+chunked+"\r\n"+by+"19\r\n"+chunks[4:])
		}
		if c < ' ' && c != '\t' || c == 0x7f {
			add(fmt.Sprintf("byte %#x in an extension", c), head+chunked+"\r\n19;a"+by+"b\r\n"+chunks[4:])
		}
	}
	for _, size := range []string{"", " 19", "\t19", "0x19", "19h", "1 9", "19 ;a=b", "19\t;a", ";a", "-0", "00000000000000019", "10000000000000019", "ffffffffffffffff", "19\r", "19;a\rb"} {
		add(fmt.Sprintf("the size %q", size), head+chunked+"\r\n"+size+"\r\n"+chunks[4:])
	}
	for _, end := range []string{"", "\n", "\r", "x", "\r\r\n", "\n\n", " \r\n", "x\r\n"} {
		add(fmt.Sprintf("%q behind a chunk", end), head+chunked+"\r\n19\r\n"+attackEvent+end+"0\r\n\r\n")
	}
	for _, end := range []string{"0\n\n", "0\r\n\n", "0\n\r\n", "0 \r\n\r\n", "0x0\r\n\r\n", "0\r\nX: y\n\r\n", "0\r\n X\r\n\r\n"} {
		add(fmt.Sprintf("chunks that end in %q", end), head+chunked+"\r\n"+chunks[:len(chunks)-5]+end)
	}
	for _, value := range []string{"", "+25", "-25", "0x19", "25,25", "25, 25", "25;", "2 5", "25 25", "25.0", "2e1", "\"25\"", "25\x00", "25\x0b", "\x0c25", "99999999999999999999", "18446744073709551641", "25a", "a25", ",25", "25,"} {
		add(fmt.Sprintf("the length %q", value), head+"Content-Length: "+value+"\r\n\r\n"+body)
	}
	for _, pair := range [][2]string{{"25", "0"}, {"0", "25"}, {"25", "26"}, {"26", "25"}, {"25", "+25"}, {"25", ""}} {
		add(fmt.Sprintf("the lengths %q", pair), head+"Content-Length: "+pair[0]+"\r\nContent-Length: "+pair[1]+"\r\n\r\n"+body)
	}
	for _, value := range []string{"", "identity", "gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked,", ",chunked", "chunked;q=1", "xchunked", "chunkedx", "\"chunked\"", "chunked\x00", "\x0bchunked", "chunke", "cow", "chunked identity", "chun\tked"} {
		add(fmt.Sprintf("the coding %q", value), head+"Transfer-Encoding: "+value+"\r\n\r\n"+chunks)
		add(fmt.Sprintf("the coding %q and a length", value), head+length+"Transfer-Encoding: "+value+"\r\n\r\n"+chunks)
	}
	for what, both := range map[string]string{
		"a length before chunks": length + chunked, "a length behind chunks": chunked + length, "a length of 0 and chunks": "Content-Length: 0\r\n" + chunked, "two codings": chunked + "Transfer-Encoding: identity\r\n",
		"two codings, the other way round": "Transfer-Encoding: identity\r\n" + chunked, "a folded length": "Content-Length:\r\n 25\r\n", "a folded coding": "Transfer-Encoding:\r\n chunked\r\n", "a folded value": "X: 1\r\n\t2\r\n" + length,
		"a folded first line": " X: 1\r\n" + length, "no colon": "X\r\n" + length, "no name": ": 1\r\n" + length, "the relay's own mark": "Relay-Unread: refused\r\n" + length,
	} {
		rest := body
		if strings.Contains(both, "chunked") {
			rest = chunks
		}
		add(what, head+both+"\r\n"+rest)
	}
	// Lines that end in something else, each by itself.
	sound := head + length + "\r\n"
	for i := range strings.Count(sound, "\r\n") {
		parts := strings.SplitAfter(sound, "\r\n")
		for _, end := range []string{"\n", "\r", "\n\r", "\r\r\n"} {
			changed := append([]string{}, parts...)
			changed[i] = strings.TrimSuffix(parts[i], "\r\n") + end
			add(fmt.Sprintf("line %d that ends in %q", i+1, end), strings.Join(changed, "")+body)
		}
	}
	for _, first := range []string{"POST  /open HTTP/1.1", "POST /open  HTTP/1.1", " POST /open HTTP/1.1", "POST\t/open\tHTTP/1.1", "POST /open HTTP/1.1 ", "POST /open", "POST /open HTTP/1.2", "POST /open HTTP/2.0", "POST /open HTTP/11", "POST /open http/1.1",
		"POST /open HTTP/1.1x", "POST /open HTTP/0.9", "POST http://localhost/open HTTP/1.1", "POST localhost/open HTTP/1.1", "POST open HTTP/1.1", "POST //localhost/open HTTP/1.1", "POST \\open HTTP/1.1", "POST /open\x00 HTTP/1.1", "POST /o\x0bpen HTTP/1.1",
		"POST /open/ HTTP/1.1", "POST /OPEN HTTP/1.1", "POST /./open HTTP/1.1", "POST /open/. HTTP/1.1", "POST /%6Fpen HTTP/1.1", "POST /open;a HTTP/1.1", "POST /open%00 HTTP/1.1", "post /open HTTP/1.1", "P\x00ST /open HTTP/1.1", "POST", ""} {
		add(fmt.Sprintf("the first line %q", first), first+"\r\n"+host+kind+length+"\r\n"+body)
	}
	for _, value := range []string{"x@localhost", "localhost, localhost", "localhost localhost", "localhost/", "localhost?a", "localhost#a", "http://localhost", "localhost\\x", "local\x00host", "<localhost>"} {
		add(fmt.Sprintf("the host %q", value), line+"Host: "+value+"\r\n"+kind+length+"\r\n"+body)
	}
	add("two hosts", line+host+"Host: 127.0.0.1\r\n"+kind+length+"\r\n"+body)
	add("two hosts that are the same", line+host+host+kind+length+"\r\n"+body)
	return refused, controls
}
