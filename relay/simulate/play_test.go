package simulate

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"
)

var (
	firstSeed = flag.Uint64("seed", 1, "")
	seeds     = flag.Int("seeds", 2, "")
	length    = flag.Duration("length", 2*time.Hour, "of each life that is played")
	leftOut   = flag.String("without", "", "actors and steps that do nothing, as \"operator,crm/12\"")
	alone     = flag.Bool("alone", false, "play -seed in this process")
	showLog   = flag.Bool("log", false, "print the log of the world; with -alone")
)

func TestMain(m *testing.M) {
	flag.Parse()
	beginGlobals()
	os.Exit(m.Run())
}

// beginGlobals has fasthttp start what it starts once in a process: in a bubble it would never end.
func beginGlobals() {
	near, far := net.Pipe()
	s := &fasthttp.Server{Handler: func(*fasthttp.RequestCtx) {}}
	go func() { _ = s.ServeConn(far) }()
	_, _ = near.Write([]byte("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
	_, _ = near.Read(make([]byte, 1000))
	_ = near.Close()
}

// TestLivesKeepTheirPromises plays each seed in a process of its own: pools of channels outlive a bubble, and no other may use them.
func TestLivesKeepTheirPromises(t *testing.T) {
	if *alone {
		t.Skip("a process of one life")
	}
	at := make(chan struct{}, runtime.GOMAXPROCS(0))
	for seed := *firstSeed; seed < *firstSeed+uint64(*seeds); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			at <- struct{}{}
			defer func() { <-at }()
			again := []string{"-alone", "-seed", fmt.Sprint(seed), "-length", length.String(), "-without", *leftOut}
			cmd := exec.Command(os.Args[0], append(again, "-test.run", "^TestOneLife$", "-test.v", "-test.timeout", patience.String())...)
			cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=400")
			out, err := cmd.CombinedOutput()
			for line := range strings.Lines(string(out)) {
				if _, told, ok := strings.Cut(line, told); ok {
					fmt.Print(told)
				}
			}
			if err != nil {
				t.Errorf("scripts/simulate %s\n%s", strings.Join(again[1:], " "), out)
			}
		})
	}
}

// told begins the line that says what was played.
const told = "played: "

// patience is how long the process of one life may take.
const patience = 5 * time.Minute

func TestOneLife(t *testing.T) {
	if !*alone {
		t.Skip("each seed has a process of its own")
	}
	began := time.Now()
	w := play(t, *firstSeed, *length, strings.Split(*leftOut, ","))
	if *showLog {
		fmt.Println(strings.Join(w.log, "\n"))
	}
	for _, fault := range w.broken() {
		t.Error(fault)
	}
	fmt.Println(w.tellActors())
	fmt.Printf("%sseed %d, %s in %s: %d events, %d requests, %d lives, %d steps\n", told, *firstSeed, *length,
		time.Since(began).Round(10*time.Millisecond), len(w.ledger.order), w.events.Load(), w.relay().lives+1, w.steps.Load())
}

// play plays one life.
func play(t *testing.T, seed uint64, length time.Duration, without []string) (w *world) {
	folder, err := os.MkdirTemp("", "simulate-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	synctest.Test(t, func(*testing.T) {
		w = newWorld(seed, folder, length)
		for _, name := range without {
			w.without[name] = true
		}
		w.play()
	})
	return w
}

var retries = [][]time.Duration{
	{time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute},
	{time.Second, 5 * time.Second},
	{5 * time.Second, time.Minute, 10 * time.Minute},
	{30 * time.Second},
	{time.Minute, 10 * time.Minute, time.Hour},
	{},
}

func (w *world) play() {
	r := w.rand("world", 0)
	pick := func(list ...time.Duration) time.Duration { return list[r.IntN(len(list))] }
	w.file = &file{editing: make(chan struct{}, 1), dedup: pick(time.Hour, 12*time.Hour, 72*time.Hour), retention: pick(30*time.Minute, 6*time.Hour, 168*time.Hour), failedRetention: pick(time.Hour, 6*time.Hour, 720*time.Hour)}
	if !*showLog {
		w.level = zerolog.WarnLevel
	}
	for _, name := range []string{"crm", "mail", "chat", "books", "board", "stats"}[:2+r.IntN(5)] {
		h := w.net.addHost(name+".example", time.Duration(1+r.IntN(40))*time.Millisecond)
		e := &endpoint{name: name, host: h, enabled: true, secret: "example-secret-of-" + name, retry: retries[r.IntN(len(retries))],
			timeout: pick(3*time.Second, 10*time.Second, 30*time.Second), maxAge: pick(time.Hour, 12*time.Hour, 72*time.Hour), concurrency: 1 + r.IntN(16)}
		if r.IntN(4) == 0 {
			e.jitter = pick(time.Second, 30*time.Second)
		}
		e.events = subscription(r)
		w.file.endpoints = append(w.file.endpoints, e)
		w.newReceiver(name, h)
	}
	if a := w.rand("accounts", 0); a.IntN(2) == 0 {
		w.byAccount, w.tail = true, 4<<10 // most of what is delivered is read from the disk
		for _, e := range w.file.endpoints {
			w.file.ask(e, anAccount(a))
		}
	}
	sources := 1 + r.IntN(3)
	for i := range sources {
		w.newOrigin(i)
	}
	w.file.change(func([]*endpoint) {})
	w.file.follow()
	w.smaller = []int{16, 64}[r.IntN(2)]
	m := w.newMachine("alpha", 1)
	w.relays = append(w.relays, m)
	w.writeFile(m)
	merges := r.IntN(10) == 0
	m.start(0, merges)

	for i := range sources {
		w.newSource(i, pick(2*time.Minute, 10*time.Minute, 30*time.Minute))
	}
	for name, receiver := range w.ledger.receivers {
		mean := around(time.Hour, w.rand(name, -1)) + time.Minute
		w.act(name, func(r *rand.Rand) time.Duration { return around(mean, r) }, func(r *rand.Rand) { receiver.become(draw(r)) })
	}
	w.newOperator(m, pick(20*time.Minute, time.Hour, 6*time.Hour))
	w.newSwitcher(m, pick(time.Hour, 3*time.Hour, 12*time.Hour))
	w.newReplayer(m, pick(20*time.Minute, time.Hour, 6*time.Hour))
	if w.byAccount {
		w.newSwapper(m, around(30*time.Minute, w.rand("swapper", -1))+5*time.Minute)
	}
	w.newFate(m, pick(20*time.Minute, time.Hour, 6*time.Hour), merges)
	w.newWatcher(m)
	w.newLine(pick(time.Hour, 3*time.Hour, 12*time.Hour))
	w.act("judge", func(*rand.Rand) time.Duration { return time.Minute }, func(*rand.Rand) { w.judgeLiveness() })

	time.Sleep(time.Until(w.ends))
	close(w.over)
	w.actors.Wait()
	w.end(m)
}

// end makes all well, waits until all that is due must have come, and judges the end.
func (w *world) end(m *machine) {
	w.say("world", "all is made well")
	w.net.setDown(none)
	w.disk.set(1 << 40)
	m.setClock(0)
	if _, runs := m.runsSince(); !runs {
		m.start(0, false)
	}
	for _, r := range w.ledger.receivers {
		r.become(temper{name: "well", answer: well})
	}
	for _, e := range w.file.endpoints {
		if !e.enabled {
			w.reload(m, "edit", e.name, func() { e.enabled = true })
		}
	}
	for _, e := range w.endpoints() {
		if !w.order(m, "resume", e.name) {
			w.fail("%s can't be resumed", e.name)
		}
	}
	for range 150 {
		time.Sleep(time.Minute)
		w.judgeLiveness()
	}
	w.judgeEnd()
	m.stop()
	for _, r := range w.ledger.receivers {
		_ = r.close()
	}
	m.ghosts.Wait()
	w.net.closeAll()
	time.Sleep(11 * time.Second) // a server leaves a goroutine that sleeps for ten
}
