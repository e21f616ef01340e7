// A receiver that verifies the bytes as they were received. Start: PORT=3000 SECRET=… go run receiver.go
package main

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

func signed(header string, body, secret []byte) bool {
	mac := hmac.New(sha256.New, secret)
	mac.Write(body)
	given, err := hex.DecodeString(header)
	return err == nil && hmac.Equal(given, mac.Sum(nil))
}

func main() {
	secret := []byte(os.Getenv("SECRET"))
	if len(secret) == 0 {
		log.Fatal("SECRET is not set") // an empty key would let anyone sign
	}
	http.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil || !signed(r.Header.Get("X-RealtorBot-Signature"), body, secret) {
			fmt.Println("bad")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		var event struct{ ID string }
		_ = json.Unmarshal(body, &event) // signed, so it is what the relay sent
		fmt.Println("ok", event.ID)
	})

	listener, err := net.Listen("tcp", "127.0.0.1:"+cmp.Or(os.Getenv("PORT"), "3000"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr().(*net.TCPAddr).Port)
	log.Fatal(http.Serve(listener, nil))
}
