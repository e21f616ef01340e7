package canonical

import (
	"bytes"
	"testing"
)

func TestNumbersAreWrittenAsJavaScriptDoesWhenAskedFor(t *testing.T) {
	tests := []struct{ form, want, kept string }{
		{`{"a":1,"b":[1.5,-2],"c":"653247040368672768"}`, `{"a":1,"b":[1.5,-2],"c":"653247040368672768"}`, ""},
		{`{"a":653247040368672768}`, `{"a":653247040368672800}`, "653247040368672768"},
		{`{"a":[{"b":[1,-9007199254740993]}],"\"9\\":12345678901234567890}`, `{"a":[{"b":[1,-9007199254740992]}],"\"9\\":12345678901234567000}`, "-9007199254740993"},
		{`{"a":1e400,"b":-1E400,"c":1e-400}`, `{"a":null,"b":null,"c":0}`, "1e400"},
		{`{"a\\":9007199254740993e0,"b":"\""}`, `{"a\\":9007199254740992,"b":"\""}`, "9007199254740993e0"},
		{`{}`, `{}`, ""}, {`12345678901234567890123456789`, `1.2345678901234568e+28`, "12345678901234567890123456789"},
	}
	for _, tt := range tests {
		form := []byte(tt.form)
		if got := AppendJavaScript(nil, form); string(got) != tt.want {
			t.Errorf("%s is written %s, want %s", tt.form, got, tt.want)
		}
		if kept := KeptNumber(form); string(kept) != tt.kept {
			t.Errorf("%s: %q keeps its text, want %q", tt.form, kept, tt.kept)
		}
	}
}

// What Node makes of every text that we accept is what AppendJavaScript makes of its canonical form.
func TestWhatIsWrittenAsJavaScriptDoesIsNodes(t *testing.T) {
	node := startNode(t)
	corpus := append(nodeCorpus(), `[18446744073709551616,{"b":[1e400,-653247040368672768]},"1e400\\",9007199254740993.0]`)
	for _, text := range corpus {
		node.ask(t, []byte(text))
		want := node.answer(t)
		form, _, ok := canonicalForm([]byte(text))
		if !ok || want == nil {
			continue
		}
		if got := AppendJavaScript(nil, form); !bytes.Equal(got, want) {
			t.Errorf("%.80s is written %.80s, Node has %.80s", text, got, want)
		}
	}
}
