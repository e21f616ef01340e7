package endtoend

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// attempt is one POST, as it arrived.
type attempt struct {
	at     time.Time
	id     string // webhook-id
	number int    // X-RealtorBot-Attempt
	header http.Header
	body   string
	count  int // of the receiver's attempts, from 1
}

// receiver keeps what it gets.
type receiver struct {
	t   *testing.T
	url string

	mu       sync.Mutex
	attempts []attempt
}

// answering says what a receiver answers.
type answering func(w http.ResponseWriter, request *http.Request, a attempt)

// receive starts a receiver on a free port.
func receive(t *testing.T, answer answering) *receiver {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return receiveOn(t, ln, answer)
}

// receiveOn starts a receiver on a listener, which it owns.
func receiveOn(t *testing.T, ln net.Listener, answer answering) *receiver {
	r := &receiver{t: t, url: "http://" + ln.Addr().String() + "/webhooks"}
	server := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return // the relay was killed, or gave up
		}
		number, _ := strconv.Atoi(request.Header.Get("X-RealtorBot-Attempt"))
		answer(w, request, r.note(attempt{
			at: time.Now(), id: request.Header.Get("webhook-id"), number: number, header: request.Header, body: string(body),
		}))
	})}}
	server.Start()
	t.Cleanup(server.Close) // the relays that were started later have ended by then, and with them all requests
	return r
}

func (r *receiver) note(a attempt) attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.count = len(r.attempts) + 1
	r.attempts = append(r.attempts, a)
	return a
}

// all is what has arrived so far.
func (r *receiver) all() []attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]attempt(nil), r.attempts...)
}

// counts is how often each event has arrived.
func (r *receiver) counts() map[string]int {
	counts := map[string]int{}
	for _, a := range r.all() {
		counts[a.id]++
	}
	return counts
}

// await waits until as many attempts have arrived.
func (r *receiver) await(count int) []attempt {
	r.t.Helper()
	eventually(r.t, strconv.Itoa(count)+" attempts have arrived", func() bool { return len(r.all()) >= count })
	return r.all()
}

// well answers 200.
func well(http.ResponseWriter, *http.Request, attempt) {}

// codes answers the first attempts with a code each, and all others with the last.
func codes(list ...int) answering {
	return func(w http.ResponseWriter, _ *http.Request, a attempt) {
		w.WriteHeader(list[min(a.count, len(list))-1])
	}
}

// hanging answers nothing until the far side gives up.
func hanging(_ http.ResponseWriter, request *http.Request, _ attempt) { <-request.Context().Done() }

// until answers with code once open is closed.
func until(open <-chan struct{}, code int) answering {
	return func(w http.ResponseWriter, request *http.Request, _ attempt) {
		select {
		case <-open:
			w.WriteHeader(code)
		case <-request.Context().Done():
		}
	}
}

// reservation is a port that refuses connections, and that nobody else can take.
type reservation struct {
	t  *testing.T
	fd int
}

// reserve binds a port without listening on it.
func reserve(t *testing.T) *reservation {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	return &reservation{t, fd}
}

func (r *reservation) url() string {
	r.t.Helper()
	address, err := syscall.Getsockname(r.fd)
	if err != nil {
		r.t.Fatal(err)
	}
	return "http://127.0.0.1:" + strconv.Itoa(address.(*syscall.SockaddrInet4).Port) + "/webhooks"
}

// listen makes it a listener.
func (r *reservation) listen() net.Listener {
	r.t.Helper()
	if err := syscall.Listen(r.fd, 64); err != nil {
		r.t.Fatal(err)
	}
	dup, err := syscall.Dup(r.fd)
	if err != nil {
		r.t.Fatal(err)
	}
	file := os.NewFile(uintptr(dup), "listener")
	defer file.Close()
	ln, err := net.FileListener(file)
	if err != nil {
		r.t.Fatal(err)
	}
	return ln
}
