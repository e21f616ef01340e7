package memory

import (
	"math"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func TestTheLowestLimitOfAnyGroupCounts(t *testing.T) {
	const service = "system.slice/realtorbot-relay.service"
	for name, c := range map[string]struct {
		files map[string]string
		want  uint64
	}{
		"none":                 {map[string]string{"proc/self/cgroup": "0::/" + service + "\n", "sys/fs/cgroup/" + service + "/memory.max": "max\n"}, math.MaxUint64},
		"the service's":        {map[string]string{"proc/self/cgroup": "0::/" + service + "\n", "sys/fs/cgroup/" + service + "/memory.max": "268435456\n"}, 256 << 20},
		"the slice's is lower": {map[string]string{"proc/self/cgroup": "0::/" + service + "\n", "sys/fs/cgroup/" + service + "/memory.max": "268435456\n", "sys/fs/cgroup/system.slice/memory.max": "134217728\n"}, 128 << 20},
		"a container's own":    {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "536870912\n"}, 512 << 20},
		"a path from outside":  {map[string]string{"proc/self/cgroup": "4:cpu,memory:/docker/0f1e\n0::/docker/0f1e\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n"}, 256 << 20},
		"the first version":    {map[string]string{"proc/self/cgroup": "9:cpu:/a\n4:memory:/a/b\n", "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "9223372036854771712\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1073741824\n"}, 1 << 30},
		"both versions":        {map[string]string{"proc/self/cgroup": "4:memory:/a\n0::/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1073741824\n", "sys/fs/cgroup/unified/a/memory.max": "max\n"}, 1 << 30},
		"no groups":            {map[string]string{}, math.MaxUint64},
		"nothing to read":      {map[string]string{"proc/self/cgroup": "garbage\n0::/../..\n::\n", "sys/fs/cgroup/memory.max": "lots\n"}, math.MaxUint64},
	} {
		root := fstest.MapFS{}
		for path, text := range c.files {
			root[path] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := limit(root); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

// The control for the machine's own is what the kernel tells everybody.
func TestTheMachineBoundsWhatIsAvailable(t *testing.T) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "MemTotal:")
	var total uint64
	for _, c := range strings.TrimSpace(rest[:strings.Index(rest, "kB")]) {
		total = total*10 + uint64(c-'0')
	}
	if got := Available(); got == 0 || got > total<<10+64<<20 {
		t.Errorf("%d bytes, and the machine has %d", got, total<<10)
	}
}
