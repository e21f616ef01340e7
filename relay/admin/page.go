package admin

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/manual"
)

// pageFiles are the page as it is served: written by hand, built by nobody.
//
//go:embed page/*.html page/*.css page/*.js page/*.svg
var pageFiles embed.FS

// pagePolicy lets the page load what this listener has, ask this listener, and make no HTML out of text.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// pageFile is one file of the page.
type pageFile struct {
	kind, tag string
	body      []byte
}

func newPageFile(kind string, body []byte) pageFile {
	sum := sha256.Sum256(body)
	return pageFile{kind, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, body}
}

// pages are all files, by the path they are served at.
var pages = loadPages()

func loadPages() map[string]pageFile {
	kinds := map[string]string{
		".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
		".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
	}
	files := map[string]pageFile{}
	entries, err := fs.ReadDir(pageFiles, "page")
	if err != nil {
		panic(err) // they are in the binary
	}
	for _, e := range entries {
		body, err := pageFiles.ReadFile("page/" + e.Name())
		if err != nil {
			panic(err)
		}
		at := "/page/" + e.Name()
		if e.Name() == "index.html" {
			at = "/"
		}
		files[at] = newPageFile(kinds[path.Ext(e.Name())], body)
	}
	return files
}

// page answers with a file of the page. It has no secret and asks for no token: what it shows it has to ask for.
func (a *Admin) page(ctx *fasthttp.RequestCtx, f pageFile) {
	if a.foreign(ctx) {
		return
	}
	h := &ctx.Response.Header
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set(fasthttp.HeaderCacheControl, "no-cache")
	h.Set(fasthttp.HeaderETag, f.tag)
	if string(ctx.Request.Header.Peek(fasthttp.HeaderIfNoneMatch)) == f.tag {
		ctx.SetStatusCode(304)
		return
	}
	h.SetContentType(f.kind)
	ctx.SetBody(f.body)
}

// manualColumns is how wide a page of the manual is for who asks with curl.
const manualColumns = 100

// manualFiles are the pages of the manual by their names, for browsers and for people in a terminal: made once somebody asks.
var manualFiles = sync.OnceValue(func() map[string][2]pageFile {
	files := map[string][2]pageFile{}
	for _, name := range append([]string{""}, manual.Names()...) {
		document, _ := manual.HTML(name)
		text, _ := manual.Text(name, manualColumns, false)
		files[name] = [2]pageFile{newPageFile("text/html; charset=utf-8", []byte(document)), newPageFile("text/plain; charset=utf-8", []byte(text))}
	}
	return files
})

// manual answers with a page of the manual: in HTML who takes that, as plain text who does not say so. Like the files of the page
// it has no secret, and is for all.
func (a *Admin) manual(ctx *fasthttp.RequestCtx, t target) {
	if a.foreign(ctx) {
		return
	}
	both, ok := manualFiles()[t.id]
	if !ok {
		answer.Error(ctx, 404, "not_found", "the manual has no such page; GET /manual/ lists them")
		return
	}
	ctx.Response.Header.Set(fasthttp.HeaderVary, fasthttp.HeaderAccept)
	if strings.Contains(string(ctx.Request.Header.Peek(fasthttp.HeaderAccept)), "text/html") {
		a.page(ctx, both[0])
	} else {
		a.page(ctx, both[1])
	}
}

// toManual leads to the list of the manual's pages, whose links need the slash. It is relative: a proxy may give the relay a prefix.
func (a *Admin) toManual(ctx *fasthttp.RequestCtx) {
	if a.foreign(ctx) {
		return
	}
	ctx.Response.Header.Set(fasthttp.HeaderLocation, "manual/")
	ctx.SetStatusCode(308)
}

func isManual(path string) bool { return path == "/manual" || strings.HasPrefix(path, "/manual/") }

// liveStep is how often the page hears how the relay is.
const liveStep = time.Second

// liveStats answers with how the relay is, every second: "stats" in the form of /stats, and "sample" with the newest sample of
// each endpoint's history when there is one.
func (a *Admin) liveStats(ctx *fasthttp.RequestCtx) {
	a.live(ctx, func(l *eventStream) {
		_, seen := a.history.latest(0)
		for {
			l.event("stats", a.readStats())
			if tracks, round := a.history.latest(1); round != seen {
				l.event("sample", pastHour{int(historyStep.Seconds()), tracks})
				seen = round
			}
			if !l.pause(liveStep) {
				return
			}
		}
	})
}

// event writes one event with v as its data.
func (l *eventStream) event(name string, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		return // of our own making: it always marshals
	}
	_, _ = l.WriteString("event: " + name + "\ndata: ")
	_, _ = l.Write(text)
	_, _ = l.WriteString("\n\n")
}

// shownConfig answers with the configuration as `realtorbot-relay check` tells it.
func (a *Admin) shownConfig(ctx *fasthttp.RequestCtx) {
	if a.Describe == nil {
		answer.Error(ctx, 404, "not_found", "this relay has no configuration to show")
		return
	}
	answer.Value(ctx, 200, struct {
		Text string `json:"text"`
		File string `json:"file"`
	}{a.Describe(), a.File})
}
