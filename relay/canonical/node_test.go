package canonical

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"realtorbot-relay/scripts/needed"
)

// nodeProgram answers every line, a text in base64, with what JavaScript makes of it, or with an exclamation mark.
const nodeProgram = `
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const answer = (line) => {
  try {
    return Buffer.from(JSON.stringify(JSON.parse(utf8.decode(Buffer.from(line, 'base64'))))).toString('base64') + '\n';
  } catch {
    return '!\n';
  }
};
let rest = '';
process.stdin.setEncoding('latin1');
process.stdin.on('data', (text) => {
  const lines = (rest + text).split('\n');
  rest = lines.pop();
  process.stdout.write(lines.map(answer).join(''));
});
`

// oracle is a Node process that is asked line by line. It ends when in is closed, or with this process.
type oracle struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func startNode(t testing.TB) *oracle {
	t.Helper()
	cmd := exec.Command(needed.Program(t, "node"), "-e", nodeProgram)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("run node: %v: install Node.js 18 or later and put it on the PATH", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("node: %v", err)
		}
	})
	return &oracle{in, bufio.NewReaderSize(out, 1<<20)}
}

func (o *oracle) ask(t testing.TB, text []byte) {
	if _, err := io.WriteString(o.in, base64.StdEncoding.EncodeToString(text)+"\n"); err != nil {
		t.Errorf("ask node: %v", err)
	}
}

// answer is the form of the next text, nil when Node refuses it.
func (o *oracle) answer(t testing.TB) (form []byte) {
	t.Helper()
	line, err := o.out.ReadString('\n')
	if err == nil && line != "!\n" {
		form, err = base64.StdEncoding.DecodeString(line[:len(line)-1])
	}
	if err != nil {
		t.Fatalf("read what node says: %v", err)
	}
	return form
}

// nodeForms has Node rewrite all texts. The form of one that it refuses is nil.
func nodeForms(t *testing.T, texts [][]byte) (forms [][]byte) {
	t.Helper()
	node := startNode(t)
	go func() {
		for _, text := range texts {
			node.ask(t, text)
		}
	}()
	for range texts {
		forms = append(forms, node.answer(t))
	}
	return forms
}

// nodeCase is a text to compare. What is must be taken; what is not may be refused even when Node takes it.
type nodeCase struct {
	text []byte
	must bool
}

func TestCanonicalFormIsNodes(t *testing.T) {
	var cases []nodeCase
	for _, s := range nodeCorpus() {
		cases = append(cases, nodeCase{[]byte(s), true})
	}
	for _, s := range []string{
		`{"a":1,"a":2}`, `"\ud800"`, nested(maxDepth + 1), "\uFEFF1", "\"\xff\"", "\"\xed\xa0\x80\"", "[1,]", "{\"a\":1}x", "01", "1.", "\"\t\"",
		"\u00a01", "\u20281", "\f1", "{'a':1}", "nul", "[", "", " ", "-", "\"\\u00g0\"", "\"\\a\"", "1e", "\x00", "1\x00", "\"\x00\"", "//\n1",
	} {
		cases = append(cases, nodeCase{[]byte(s), false})
	}
	g := &generator{rand.New(rand.NewPCG(20240115, 1030))}
	for range 15_000 {
		text := g.value(nil, g.IntN(5))
		cases = append(cases, nodeCase{text, true})
		if g.IntN(3) == 0 {
			cases = append(cases, nodeCase{g.damaged(text), false})
		}
	}
	for range 15_000 {
		cases = append(cases, nodeCase{g.number(nil), true})
	}

	texts := make([][]byte, len(cases))
	for i := range cases {
		texts[i] = cases[i].text
	}
	var kept, refused int
	for i, form := range nodeForms(t, texts) {
		if form == nil && cases[i].must {
			t.Errorf("%q: Node refuses what the test means to be sound", texts[i])
		}
		switch sameAsNode(t, texts[i], form, cases[i].must) {
		case isRefused:
			refused++
		case isKept:
			kept++
		}
	}
	t.Logf("%d texts: %d refused, %d with numbers that keep their text", len(texts), refused, kept)
	if refused < 1000 || kept < 1000 {
		t.Errorf("of %d texts %d were refused and %d keep numbers: the generator shows too little", len(texts), refused, kept)
	}
}

// What came of a text.
const (
	isSame = iota
	isRefused
	isKept // with a number that keeps its own text
)

// sameAsNode compares what canon makes of a text with what Node does. must is for a text that may not be refused.
func sameAsNode(t testing.TB, text, form []byte, must bool) int {
	got, f, ok := canonicalForm(text)
	switch {
	case form == nil && ok:
		t.Errorf("%q: Node refuses it, we made %q of it", text, got)
	case !ok:
		documented := f.reason == duplicateName || f.reason == tooDeep
		if form != nil && (must || !documented) {
			t.Errorf("%q: refused for %s; Node makes %q of it", text, f.text(0), form)
		}
		return isRefused
	case isNumber(text):
		if want := wantNumber(t, string(bytes.TrimSpace(text)), string(form)); string(got) != want {
			t.Errorf("%s: became %s, want %s (Node: %s)", text, got, want, form)
		}
		if !bytes.Equal(got, form) {
			return isKept
		}
	case !bytes.Equal(got, form):
		sameButForKeptNumbers(t, text, got, form)
		return isKept
	}
	return isSame
}

// FuzzCanonicalFormIsNodes asks Node about every text. Each process of the fuzzer has a Node of its own.
func FuzzCanonicalFormIsNodes(f *testing.F) {
	for _, text := range nodeCorpus()[:20] {
		f.Add([]byte(text))
	}
	for _, text := range []string{
		`{"a":1,"a":2}`, `"\ud800"`, nested(maxDepth + 1), "\uFEFF1", "\"\xff\"", "[1,]", `[-0,-0.0,1e-7,1E+21,5e-324,2e308,9007199254740993,0.1e1]`,
		`{"data":{"10":1,"9":2,"a":3,"4294967294":4,"4294967295":5}}`, `"\u2028\u2029\uD83C\uDFE0\u001f\/"`, `[1.7976931348623157e308,4.9406564584124654e-324,123456789012345678]`,
	} {
		f.Add([]byte(text))
	}
	node := startNode(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		node.ask(t, text)
		sameAsNode(t, text, node.answer(t), false)
	})
}

func isNumber(text []byte) bool {
	text = bytes.TrimLeft(text, " \t\r\n")
	return len(text) > 0 && (text[0] == '-' || isDigit(text[0]))
}

// wantNumber says by exact arithmetic what a number is to become, given what Node makes of it.
func wantNumber(t testing.TB, text, node string) string {
	if node == "null" {
		return text // infinite
	}
	mantissa, _, _ := strings.Cut(strings.ToLower(text), "e")
	if strings.Trim(mantissa, "-0.") == "" {
		return "0"
	}
	if node == "0" {
		return text // too small
	}
	is, ok1 := new(big.Rat).SetString(text)
	becomes, ok2 := new(big.Rat).SetString(node)
	if !ok1 || !ok2 {
		t.Fatalf("math/big does not read %s or %s", text, node)
	}
	if is.IsInt() && is.Cmp(becomes) != 0 {
		return text
	}
	return node
}

// tokens takes a canonical form apart into strings, numbers, words and the marks between them.
func tokens(form []byte) [][]byte {
	var found [][]byte
	for i := 0; i < len(form); {
		from := i
		switch {
		case form[i] == '"':
			for i++; form[i] != '"'; i++ {
				if form[i] == '\\' {
					i++
				}
			}
			i++
		case strings.IndexByte(",:[]{}", form[i]) >= 0:
			i++
		default:
			for i < len(form) && strings.IndexByte(",:[]{}", form[i]) < 0 {
				i++
			}
		}
		found = append(found, form[from:i])
	}
	return found
}

// sameButForKeptNumbers checks that got differs from Node's form in numbers alone that are to keep their text, and that
// they are in the text as they are in got.
func sameButForKeptNumbers(t testing.TB, text, got, form []byte) {
	ours, nodes := tokens(got), tokens(form)
	if len(ours) != len(nodes) {
		t.Errorf("%q: became %q, Node makes %q of it", text, got, form)
		return
	}
	for i := range ours {
		if bytes.Equal(ours[i], nodes[i]) {
			continue
		}
		if !isNumber(ours[i]) || !bytes.Contains(text, ours[i]) || wantNumber(t, string(ours[i]), string(nodes[i])) != string(ours[i]) {
			t.Errorf("%q: %s, which Node makes %s of, in %q", text, ours[i], nodes[i], got)
		}
	}
}

// nodeCorpus is sound JSON at every edge.
func nodeCorpus() []string {
	corpus := []string{
		leadCreated, `{}`, `[]`, `""`, "\t{ \"a\" : [ ] }\r\n", nested(maxDepth), strings.Repeat(`{"a":`, 127) + "{}" + strings.Repeat("}", 127),
		`{"4294967296":0,"4294967295":0,"4294967294":0,"4294967293":0,"b":0,"2147483648":0,"2147483647":0,"00":0,"01":0,"0":0,"-0":0,"-1":0,"1":0,"1.5":0,"10":0,"9":0,"":0,"1e1":0,"9007199254740991":0,"42949672940":0}`,
		`{"z":0,"\u0032":0,"1":{"y":[{"b":0,"3":0}],"0":0}}`, `{"__proto__":1,"b":{"__proto__":{"toJSON":null}},"0":0}`,
		`{"constructor":0,"hasOwnProperty":1,"toString":2,"length":3}`, `{"\u00e9":0,"e\u0301":1,"é2":2}`, `{"a\u0000b":0,"a\u0000c":1,"a":2}`,
		`{"\\":0,"\"":1,"\/":2,"\\/":3}`, "\"\u2028\u2029\u007f\u0080\u009f\u00ad\ufeff\"", `"\u2028\u2029\u007f\u0080\ufeff\ufffd\ufffe\uffff"`,
		`"\ud83d\ude00😀\uDBFF\uDFFF"`, "\"\U0001F3E0\U00010000\U0010FFFF\"", string(manyMembers(2000)),
	}
	for r := range rune(0x100) {
		corpus = append(corpus, fmt.Sprintf(`"\u%04x"`, r), fmt.Sprintf(`{"x\u%04Xy":"%s\u%04x"}`, r, strings.Repeat("-", int(r)%11), r))
		if r >= ' ' && r != '"' && r != '\\' {
			corpus = append(corpus, fmt.Sprintf(`"%c"`, r))
		}
	}
	for e := -330; e <= 312; e++ { // every power of ten, and its neighbours
		for _, m := range []string{"1", "-1", "9.5", "1.7976931348623157", "1.7976931348623159", "2.4703282292062327", "2.4703282292062328", "4.9406564584124654"} {
			corpus = append(corpus, fmt.Sprintf("%se%d", m, e))
		}
	}
	one := big.NewInt(1)
	for bit := range uint(1030) { // every power of two, and its neighbours
		n := new(big.Int).Lsh(one, bit)
		corpus = append(corpus, n.String(), new(big.Int).Sub(n, one).String(), new(big.Int).Add(n, one).String(), n.String()+".0")
	}
	zeros := strings.Repeat("0", 20_000)
	return append(corpus, "1"+zeros, "0."+zeros+"1", "0."+zeros+"1e20001", "1"+zeros+"e-20000", "1e"+zeros+"5", "-0e-"+zeros+"5", "0."+strings.Repeat("9", 20_000),
		"4503599627370496.5"+zeros, "4503599627370496.5"+zeros+"1", strings.Repeat("9", 900)+"e-900")
}
