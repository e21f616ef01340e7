package admin

import (
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
)

// exposition writes metrics in Prometheus' text format, version 0.0.4, or as OpenMetrics 1.0.
type exposition struct {
	out  []byte
	open bool // OpenMetrics: counters are named without their _total, and the end is marked
}

const (
	textType = "text/plain; version=0.0.4; charset=utf-8"
	openType = "application/openmetrics-text; version=1.0.0; charset=utf-8"
)

// answer answers in the format that was asked for when e was made, compressed for those who take that.
func (e *exposition) answer(ctx *fasthttp.RequestCtx) {
	ctx.Response.Header.SetContentType(textType)
	if e.open {
		ctx.Response.Header.SetContentType(openType)
		e.out = append(e.out, "# EOF\n"...)
	}
	ctx.Response.Header.Set(fasthttp.HeaderVary, "Accept, Accept-Encoding")
	if quality(ctx.Request.Header.Peek(fasthttp.HeaderAcceptEncoding), "gzip") > 0 {
		ctx.Response.Header.Set(fasthttp.HeaderContentEncoding, "gzip")
		e.out = fasthttp.AppendGzipBytesLevel(nil, e.out, fasthttp.CompressBestSpeed)
	}
	ctx.Response.SetBodyRaw(e.out)
}

// asked makes an exposition in the format that the request likes best.
func asked(ctx *fasthttp.RequestCtx) *exposition {
	accept := ctx.Request.Header.Peek(fasthttp.HeaderAccept)
	open := quality(accept, "application/openmetrics-text")
	return &exposition{open: open > 0 && open >= quality(accept, "text/plain")}
}

// quality is how much a header like Accept likes a thing, 0 when not at all (RFC 9110, section 12.4.2).
func quality(header []byte, thing string) float64 {
	best := 0.0
	for part := range strings.SplitSeq(string(header), ",") {
		name, parameters, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(name), thing) {
			continue
		}
		likes := 1.0
		for parameter := range strings.SplitSeq(parameters, ";") {
			if q, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(parameter)), "q="); ok {
				likes, _ = strconv.ParseFloat(q, 64) // what can't be read is not liked
			}
		}
		best = max(best, likes)
	}
	return best
}

// family begins a metric of the table families. All of its samples follow it.
func (e *exposition) family(name string) {
	f := familyOf(name)
	if e.open && f.kind == counter {
		name = strings.TrimSuffix(name, "_total")
	}
	e.out = append(e.out, "# HELP "+name+" "+f.help+"\n# TYPE "+name+" "+f.kind+"\n"...)
}

// sample writes one value. labels are names and values in turn.
func (e *exposition) sample(name string, value float64, labels ...string) {
	e.out = append(e.out, name...)
	e.labels(labels)
	e.out = append(e.out, ' ')
	e.out = strconv.AppendFloat(e.out, value, 'g', -1, 64)
	e.out = append(e.out, '\n')
}

func (e *exposition) labels(labels []string) {
	if len(labels) == 0 {
		return
	}
	separator := byte('{')
	for i := 0; i < len(labels); i += 2 {
		e.out = append(e.out, separator)
		e.out = append(e.out, labels[i]+`="`...)
		e.out = append(e.out, labelEscapes.Replace(labels[i+1])...)
		e.out = append(e.out, '"')
		separator = ','
	}
	e.out = append(e.out, '}')
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// histogram writes a histogram. unit is one recorded unit in the metric's own: 1e-9 where nanoseconds are recorded and the metric
// is in seconds.
func (e *exposition) histogram(name string, b queue.Buckets, unit float64, labels ...string) {
	total := int64(0)
	bucket := append(labels[:len(labels):len(labels)], "le", "")
	for i, count := range b.Counts {
		total += count
		bucket[len(bucket)-1] = "+Inf"
		if i < len(b.Bounds) {
			bound := strconv.FormatFloat(float64(b.Bounds[i])*unit, 'g', 6, 64)
			if e.open && !strings.ContainsAny(bound, ".e") {
				bound += ".0" // which OpenMetrics asks for
			}
			bucket[len(bucket)-1] = bound
		}
		e.sample(name+"_bucket", float64(total), bucket...)
	}
	e.sample(name+"_sum", float64(b.Sum)*unit, labels...)
	e.sample(name+"_count", float64(total), labels...)
}

// single writes a metric of one sample without labels.
func (e *exposition) single(name string, value float64) {
	e.family(name)
	e.sample(name, value)
}
