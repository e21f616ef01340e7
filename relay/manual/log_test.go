package manual

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// Whatever the relay logs as a warning or an error has a row on the page, and each row is of something that the code says. A
// message that is put together counts with what stands for certain at its beginning.
func TestThePageOfTheLogHasEachWarning(t *testing.T) {
	text, err := os.ReadFile("pages/log.md")
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		text  string
		shape *regexp.Regexp
		used  bool
	}
	var rows []*row
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		first, _, _ := strings.Cut(line[1:], "|")
		for _, one := range regexp.MustCompile("`[^`]+`").FindAllString(first, -1) {
			one = strings.Trim(one, "`")
			shape := strings.ReplaceAll(regexp.QuoteMeta(one), "…", ".*")
			rows = append(rows, &row{text: one, shape: regexp.MustCompile("^" + shape + "$")})
		}
	}
	messages := 0
	var code strings.Builder // all its texts
	for _, said := range saidInLog(t, &code) {
		messages++
		found := false
		for _, r := range rows {
			if r.shape.MatchString(said.text) {
				r.used, found = true, true
			}
		}
		if !found && said.warns {
			t.Errorf("%s logs %q, which has no row in pages/log.md", said.where, said.text)
		}
	}
	for _, r := range rows {
		if longest := slices.MaxFunc(strings.Split(r.text, "…"), func(a, b string) int { return len(a) - len(b) }); !r.used && !strings.Contains(code.String(), longest) {
			t.Errorf("pages/log.md explains %q, which the code does not have", r.text)
		}
	}
	if messages < 60 {
		t.Errorf("only %d messages were found in the code", messages)
	}
}

// logged is a message in the code. Where a value stands in it, it has "0".
type logged struct {
	text, where string
	warns       bool // or may: the level is not told where the message is
}

// saidInLog finds the messages of log lines, and the notices of the queue, which the relay logs as warnings. All texts of the code
// are written to texts.
func saidInLog(t *testing.T, texts *strings.Builder) (list []logged) {
	t.Helper()
	files := token.NewFileSet()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel("../..", path) // both are relative
		if d.IsDir() && (rel == "scripts" || rel == "relay/try" || rel == "queue/format1" || d.Name() == "testdata" || len(d.Name()) > 2 && d.Name()[0] == '.') {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				text, _ := strconv.Unquote(literal.Value) // it was parsed
				texts.WriteString(text + "\n")
			}
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			what := logged{where: rel + ":" + strconv.Itoa(files.Position(n.Pos()).Line)}
			switch method.Sel.Name {
			case "Msg", "Msgf":
				level := levelOf(method.X)
				what.warns = level != "Info" && level != "Debug"
			case "Notice", "notice":
				what.warns = true
			default:
				return true
			}
			if what.text = messageOf(call.Args[0]); strings.ContainsFunc(what.text, unicode.IsLetter) {
				list = append(list, what)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// levelOf is the method that began a line: Warn of log.Warn().Str(…).
func levelOf(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.CallExpr:
			method, ok := x.Fun.(*ast.SelectorExpr)
			if !ok {
				return ""
			}
			if len(x.Args) == 0 {
				if name := method.Sel.Name; name == "Warn" || name == "Error" || name == "Info" || name == "Debug" {
					return name
				}
			}
			e = method.X
		default:
			return ""
		}
	}
}

var verb = regexp.MustCompile(`%[+#]?[a-z]`)

// messageOf is a text of the code with "0" for each value; empty when it is made elsewhere.
func messageOf(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(x.Value) // it was parsed
		return verb.ReplaceAllString(text, "0")
	case *ast.BinaryExpr:
		left, right := messageOf(x.X), messageOf(x.Y)
		if left == "" && right == "" {
			return ""
		}
		if left == "" {
			left = "0"
		}
		if right == "" {
			right = "0"
		}
		return left + right
	case *ast.CallExpr:
		if method, ok := x.Fun.(*ast.SelectorExpr); ok && method.Sel.Name == "Sprintf" {
			return messageOf(x.Args[0])
		}
	}
	return ""
}
