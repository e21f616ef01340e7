package ingest

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

// void is a Queue that keeps nothing: what is left is the way of a request.
type void struct{}

func (void) AppendWithin(int64, string, []queue.Event, []queue.Receipt) error { return nil }
func (void) Usage(string) (events, bytes int64)                               { return 0, 0 }
func (void) Ready() error                                                     { return nil }

// BenchmarkRequest posts events through a server, as a source with a token does. Its client allocates nothing per request.
func BenchmarkRequest(b *testing.B) {
	for _, size := range []int{250, 100 << 10} {
		b.Run(map[bool]string{true: "250B", false: "100KiB"}[size == 250], func(b *testing.B) { benchmarkRequest(b, size) })
	}
}

func benchmarkRequest(b *testing.B, size int) {
	source := config.Source{Name: "platform", Path: "/events", Token: sign.NewSecret(testToken)}
	in, err := New([]config.Source{source}, 1<<20, void{}, routed(func([]byte) queue.LaneSet { return queue.NewLaneSet(0) }), zerolog.Nop())
	if err != nil {
		b.Fatal(err)
	}
	server := answer.Server(in.Handle, answer.Limits{Body: 1 << 20, Connections: 64, Stream: true, Refuses: in.Refuses}, func(what any) { b.Error(what) })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = server.Serve(answer.Limit(ln, answer.Share{All: 64, PerAddress: 64})) }()
	defer func() { _ = server.Shutdown() }()

	body := `{"id":"evt_1","type":"lead.created","timestamp":"2024-01-15T10:30:00Z","data":{"x":"` + strings.Repeat("x", size-90) + `"}}`
	client := fasthttp.HostClient{Addr: ln.Addr().String(), MaxConns: 64}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	b.RunParallel(func(pb *testing.PB) {
		var request fasthttp.Request
		var response fasthttp.Response
		request.SetRequestURI("http://" + ln.Addr().String() + "/events")
		request.Header.SetMethod("POST")
		request.Header.SetContentType("application/json")
		request.Header.Set("Authorization", "Bearer "+testToken)
		request.SetBodyString(body)
		for pb.Next() {
			if err := client.Do(&request, &response); err != nil || !bytes.Contains(response.Body(), []byte("accepted")) {
				b.Errorf("%v: %s", err, response.Body())
				return
			}
		}
	})
}
