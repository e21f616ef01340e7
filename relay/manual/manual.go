// Package manual has the pages of the manual, one for each question. README is the entrance to it.
package manual

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed pages/*.md
var pages embed.FS

// Page is the text of a page, in Markdown; ok is false when there is none of that name.
func Page(name string) (text string, ok bool) {
	raw, err := pages.ReadFile("pages/" + name + ".md")
	return string(raw), err == nil
}

// Entry is a page in the list of them.
type Entry struct{ Name, Title string }

// Pages lists the pages, by name.
func Pages() (list []Entry) {
	names, _ := fs.Glob(pages, "pages/*.md") // the pattern is well-formed
	for _, path := range names {
		name := strings.TrimSuffix(strings.TrimPrefix(path, "pages/"), ".md")
		text, _ := Page(name)
		title, _, _ := strings.Cut(text, "\n")
		list = append(list, Entry{name, strings.TrimPrefix(title, "# ")})
	}
	return list
}
