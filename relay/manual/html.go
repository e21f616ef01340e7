package manual

import (
	"html"
	"strconv"
	"strings"
)

// HTML is a page for a browser: a whole document, without a script, that leads to the other pages beside it and has its style at
// ../page/. The name "" is that of the list of all pages. ok is false when there is no such page.
func HTML(name string) (document string, ok bool) {
	title, blocks := "The manual", []block(nil)
	if name != "" {
		text, ok := Page(name)
		if !ok {
			return "", false
		}
		title, blocks = Title(name), parse(text)
	}
	var w strings.Builder
	w.WriteString(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>` + html.EscapeString(title) + ` · Realtor Bot Relay</title>
<link rel="icon" href="../page/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="../page/page.css">
<link rel="stylesheet" href="../page/manual.css">
</head>
<body>
<header class="top"><a class="mark" href="../">Realtor Bot Relay</a>
<nav aria-label="Manual"><a href="./">The manual</a></nav></header>
<main class="manual">
`)
	if name == "" {
		w.WriteString("<h1>The manual</h1>\n<ul>\n")
		for _, page := range Names() {
			w.WriteString(`<li><a href="` + page + `">` + html.EscapeString(Title(page)) + "</a></li>\n")
		}
		w.WriteString("</ul>\n")
	}
	for _, b := range blocks {
		writeBlock(&w, b)
	}
	w.WriteString("</main>\n</body>\n</html>\n")
	return w.String(), true
}

func writeBlock(w *strings.Builder, b block) {
	switch b.kind {
	case heading:
		level := strconv.Itoa(b.level)
		w.WriteString("<h" + level + ` id="` + html.EscapeString(anchor(b.text)) + `">`)
		writeSpans(w, b.text)
		w.WriteString("</h" + level + ">\n")
	case paragraph:
		w.WriteString("<p>")
		writeSpans(w, b.text)
		w.WriteString("</p>\n")
	case list, numbered:
		tag := "ul>\n"
		if b.kind == numbered {
			tag = "ol>\n"
		}
		w.WriteString("<" + tag)
		for _, item := range b.items {
			w.WriteString("<li>")
			writeSpans(w, item)
			w.WriteString("</li>\n")
		}
		w.WriteString("</" + tag)
	case table:
		w.WriteString("<div class=\"wide\" tabindex=\"0\"><table>\n")
		for i, row := range b.rows {
			from, to := "<td>", "</td>"
			if i == 0 {
				from, to = `<th scope="col">`, "</th>"
			}
			w.WriteString("<tr>")
			for _, cell := range row {
				w.WriteString(from)
				writeSpans(w, cell)
				w.WriteString(to)
			}
			w.WriteString("</tr>\n")
		}
		w.WriteString("</table></div>\n")
	case code:
		w.WriteString(`<pre tabindex="0"><code>` + html.EscapeString(b.text) + "\n</code></pre>\n")
	}
}

func writeSpans(w *strings.Builder, text string) {
	for _, s := range spans(text) {
		piece := html.EscapeString(s.text)
		if s.code {
			piece = "<code>" + piece + "</code>"
		}
		if s.slant {
			piece = "<em>" + piece + "</em>"
		}
		if s.bold {
			piece = "<strong>" + piece + "</strong>"
		}
		if s.target != "" {
			piece = `<a href="` + html.EscapeString(strings.Replace(s.target, ".md", "", 1)) + `">` + piece + "</a>"
		}
		w.WriteString(piece)
	}
}
