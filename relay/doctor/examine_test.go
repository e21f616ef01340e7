package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/exit"
)

// examined is the report on a configuration, beside a relay that answers /stats with said and whose reload changes
// nothing; without said none answers.
func examined(t *testing.T, text string, said map[string]any) (report string, well bool) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "config.toml")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "GET /stats":
			_ = json.NewEncoder(w).Encode(said)
		case "POST /reload":
			_ = json.NewEncoder(w).Encode(map[string]any{"file": path, "changes": []any{}})
		}
	}))
	t.Cleanup(server.Close)
	if said == nil {
		server.Close()
	}
	text = fmt.Sprintf("[admin]\nlisten = %q\n[queue]\ndir = %q\n", strings.TrimPrefix(server.URL, "http://"), dir) + text
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, complaint strings.Builder
	code := Examine(context.Background(), path, &out, &complaint)
	if code == exit.Usage {
		t.Fatal(complaint.String())
	}
	return out.String(), code == exit.Well
}

func mustSay(t *testing.T, report string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		verdict, text, _ := strings.Cut(line, " ")
		found := false
		for got := range strings.Lines(report) {
			found = found || strings.HasPrefix(got, verdict) && strings.Contains(got, text)
		}
		if !found {
			t.Errorf("the report has no line %q:\n%s", line, report)
		}
	}
}

func TestDoctorJudgesWhatTheRelaySays(t *testing.T) {
	report, well := examined(t, "", map[string]any{
		"version": "1.2.3", "health": map[string]any{"status": "degraded", "reasons": []string{`endpoint "crm" is down`}},
		"queue":              map[string]any{"damaged": 2, "disk_low_in_seconds": 7200, "min_free": 1},
		"clock_skew_seconds": -300.0,
		"process":            map[string]any{"open_files": 20, "open_files_limit": 1024},
		"endpoints":          []any{map[string]any{"name": "crm", "certificate_expires_at": time.Now().Add(time.Hour)}},
	})
	mustSay(t, report, `warn relay 1.2.3 at`, `warn endpoint "crm" is down`, "fail 2 things could not be read", "warn that is in 2h0m0s: see \"The disk is filling\" in realtorbot-relay help runbook",
		"fail 5m0s behind this one", "warn the limit of the relay is 1024 descriptors, 20 are open", "warn in 1h0m0s: have it renewed", "ok runs with the file as it is")
	if well {
		t.Error("it was found well")
	}
	report, well = examined(t, "[[source]]\nname = \"a\"\npath = \"/a\"\ntoken = \"0123456789abcdef\"\n[[endpoint]]\nname = \"crm\"\nurl = \"http://127.0.0.1:9/\"\nevents = [\"*\"]\nsecret = \"0123456789abcdef\"\n", map[string]any{
		"version": "1.2.3", "health": map[string]any{"status": "ok"}, "clock_skew_seconds": 0.0, "process": map[string]any{"open_files": 20, "open_files_limit": 65536},
	})
	mustSay(t, report, "ok no warning", "ok health ok", "ok a sync of 4 KiB takes", "ok agree with this one", "ok limit of the relay is 65536", `ok host "127.0.0.1" is 127.0.0.1`)
	if !well && !strings.Contains(report, "is in memory") { // where temporary files are
		t.Errorf("it was found unwell:\n%s", report)
	}
}

func TestDoctorSaysWhatIsNotKnown(t *testing.T) {
	report, _ := examined(t, "", nil)
	mustSay(t, report, "warn no relay answers at", "ok nothing was set aside", "warn events are accepted and delivered to nobody")
	if strings.Contains(report, "clock skew") {
		t.Errorf("a skew that nobody knows:\n%s", report)
	}
	report, _ = examined(t, "", map[string]any{"health": map[string]any{"status": "ok"}})
	mustSay(t, report, "warn not known: no endpoint answered within the hour")
}

// A service's credentials are nowhere but in the service.
func TestSecretsOfTheServiceAreNoFault(t *testing.T) {
	report, _ := examined(t, "[[source]]\nname = \"a\"\npath = \"/a\"\nsecret = \"cred:realtorbot\"\nscheme = \"standard\"\n"+
		"[heartbeat]\nurl = \"env:NO_SUCH_VARIABLE\"\n", nil)
	mustSay(t, report, "warn source.a.secret: credential \"realtorbot\"", "warn heartbeat.url: environment variable \"NO_SUCH_VARIABLE\" is not set", "warn no relay answers at")
}

func TestNamesThatLeadNowhereFail(t *testing.T) {
	ep := &config.Endpoint{Name: "crm"}
	for host, want := range map[string]string{
		"nowhere.invalid": `fail its host "nowhere.invalid" can't be looked up`,
		"169.254.169.254": "fail no setting allows it",
		"localhost":       `ok its host "localhost" is`,
	} {
		f := lookUp(context.Background(), "endpoint crm", ep, host)
		mustSay(t, string(f.verdict)+" "+f.says+"\n", want)
	}
}

func TestRoomIsJudgedByTheMark(t *testing.T) {
	p := &patient{config: &config.Config{Queue: config.Queue{MinFree: 1 << 30}}}
	for free, want := range map[int64]verdict{1<<30 - 1: fail, 1 << 30: warn, 5 << 28: ok} {
		if f := p.room(free); f.verdict != want {
			t.Errorf("%d free: %+v", free, f)
		}
	}
	p.config.Queue.MinFree = 0 // what the queue needs itself: 112 MiB
	for free, want := range map[int64]verdict{6 << 20: fail, 111 << 20: fail, 113 << 20: warn, 1 << 30: ok} {
		if f := p.room(free); f.verdict != want || !strings.Contains(f.says, "below 112 MiB events are refused") {
			t.Errorf("with min_free 0 and %d free: %+v", free, f)
		}
	}
}

func TestFileSystemsAreToldApart(t *testing.T) {
	for magic, want := range map[int64]verdict{
		unix.EXT4_SUPER_MAGIC: ok, unix.XFS_SUPER_MAGIC: ok, unix.TMPFS_MAGIC: fail, unix.NFS_SUPER_MAGIC: fail,
		unix.FUSE_SUPER_MAGIC: fail, unix.OVERLAYFS_SUPER_MAGIC: warn, 0x1234: warn,
	} {
		if f := fileSystem("data", magic); f.verdict != want {
			t.Errorf("%#x: %+v", magic, f)
		}
	}
}

func TestSyncLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	took, err := measureSync(dir)
	entries, _ := os.ReadDir(dir)
	if err != nil || len(took) != syncs || len(entries) > 0 {
		t.Errorf("%d syncs, %v; left behind: %v", len(took), err, entries)
	}
	if f := speed(filepath.Join(dir, "nowhere")); f.verdict != fail {
		t.Errorf("%+v", f)
	}
}

func TestTheShortestCertificateOfAChainCounts(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path, now := filepath.Join(t.TempDir(), "chain.pem"), time.Now().Truncate(time.Second)
	var chain []byte
	for _, left := range []time.Duration{90 * 24 * time.Hour, 3 * 24 * time.Hour} {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: now.Add(left)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if err := os.WriteFile(path, chain, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		at   time.Time
		want verdict
	}{{now, warn}, {now.Add(4 * 24 * time.Hour), fail}, {now.Add(-30 * 24 * time.Hour), ok}} {
		p := &patient{config: &config.Config{Server: config.Server{TLSCert: path}}, now: tt.at}
		if f := p.certificates(); len(f) != 1 || f[0].verdict != tt.want {
			t.Errorf("%+v, want %s", f, tt.want)
		}
	}
}

func TestFilesOfSomebodyElseAreFound(t *testing.T) {
	if os.Geteuid() != 0 { // nobody else can give files away; what is one's own is found to be so
		if f := owner(t.TempDir()); f.verdict != ok {
			t.Errorf("%+v", f)
		}
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "store", "00001.mem")
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if f := owner(dir); f.verdict != ok {
		t.Errorf("all is root's: %+v", f)
	}
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if f := owner(dir); f.verdict != fail || !strings.Contains(f.says, path) || !strings.Contains(f.says, "uid 12345") {
		t.Errorf("one file is not: %+v", f)
	}
}
