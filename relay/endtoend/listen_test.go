package endtoend

import (
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
)

// listen -from asks the relay itself: no proxy of the environment and no redirect gets its token.
func TestListenTellsItsTokenToTheRelayAlone(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer other.Close()
	var visited atomic.Int64
	turning := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visited.Add(1)
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}))
	defer turning.Close()
	for _, from := range []string{"http://relay.invalid:8081", turning.URL} {
		cmd := command(t.TempDir(), "listen", "-from", from, "-token", "example-admin-token")
		cmd.Env = append(os.Environ(), "HTTP_PROXY="+other.URL, "http_proxy="+other.URL, "NO_PROXY=", "no_proxy=")
		if code, _, stderr := end(t, cmd); code != 1 {
			t.Errorf("from %s: exit code %d, %s", from, code, stderr)
		}
	}
	if asked.Load() > 0 || visited.Load() != 1 {
		t.Errorf("others were asked %d times, the relay %d times", asked.Load(), visited.Load())
	}
}
