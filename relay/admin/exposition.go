package admin

import (
	"strconv"
	"strings"

	"realtorbot-relay/queue"
)

// exposition writes metrics in Prometheus' text format, version 0.0.4.
type exposition struct {
	out []byte
}

const expositionType = "text/plain; version=0.0.4; charset=utf-8"

// family begins a metric. All of its samples follow it.
func (e *exposition) family(name, kind, help string) {
	e.out = append(e.out, "# HELP "+name+" "+help+"\n# TYPE "+name+" "+kind+"\n"...)
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

// histogram writes a histogram whose values are counted in units of so many of the metric's own: 1e-9 for nanoseconds of
// one in seconds.
func (e *exposition) histogram(name string, b queue.Buckets, unit float64, labels ...string) {
	total := int64(0)
	bucket := append(labels[:len(labels):len(labels)], "le", "")
	for i, count := range b.Counts {
		total += count
		bucket[len(bucket)-1] = "+Inf"
		if i < len(b.Bounds) {
			bucket[len(bucket)-1] = strconv.FormatFloat(float64(b.Bounds[i])*unit, 'g', 6, 64)
		}
		e.sample(name+"_bucket", float64(total), bucket...)
	}
	e.sample(name+"_sum", float64(b.Sum)*unit, labels...)
	e.sample(name+"_count", float64(total), labels...)
}

// single writes a metric of one sample without labels.
func (e *exposition) single(name, kind, help string, value float64) {
	e.family(name, kind, help)
	e.sample(name, value)
}
