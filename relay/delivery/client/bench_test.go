package client

import (
	"bytes"
	"net"
	"testing"

	"github.com/valyala/fasthttp"
)

// BenchmarkAttempt makes attempts to a fasthttp server in the same process: its cost is in the figures, its memory is not,
// as it allocates nothing per request.
func BenchmarkAttempt(b *testing.B) {
	for name, size := range map[string]int{"250B": 250, "100KiB": 100 << 10} {
		b.Run(name, func(b *testing.B) { benchmarkAttempt(b, size) })
	}
}

func benchmarkAttempt(b *testing.B, size int) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("ok") }}
	go server.Serve(ln)
	defer server.Shutdown()

	ep := testEndpoint("http://" + ln.Addr().String() + "/webhooks")
	c := mustClient(b, ep)
	p := testRequest()
	p.Body = bytes.Repeat([]byte("x"), size)
	b.ReportAllocs()
	b.SetBytes(int64(size))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if o := c.Attempt(p); o.Status != 200 {
				b.Errorf("got %+v", o)
				return
			}
		}
	})
}
