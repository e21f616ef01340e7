// Package manual has the pages of the manual, one for each question. README is the entrance to it. The pages are Markdown of
// which only a part is used (markdown.go); they are shown in a terminal (text.go) and in a browser (html.go).
package manual

import (
	"embed"
	"strings"
)

//go:embed pages/*.md
var pages embed.FS

// order is that of the lists of pages: as somebody needs them who begins.
var order = []string{
	"install", "configure", "post", "receive", "develop", "operate", "routes", "alerts", "log", "runbook", "proxies", "schedules",
	"names", "guarantees", "damage", "backup", "security", "measured", "inside",
}

// Page is the text of a page, in Markdown; ok is false when there is none of that name.
func Page(name string) (text string, ok bool) {
	raw, err := pages.ReadFile("pages/" + name + ".md")
	return string(raw), err == nil
}

// Names are those of all pages, in the order of the lists.
func Names() []string { return order }

// Title is the first line of a page; empty when there is no such page.
func Title(name string) string {
	text, _ := Page(name)
	title, _, _ := strings.Cut(text, "\n")
	return strings.TrimPrefix(title, "# ")
}
