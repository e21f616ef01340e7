package manual

import "strings"

// kind is what a block of a page is.
type kind uint8

const (
	heading kind = 1 + iota
	paragraph
	list
	numbered
	table // its first row is the header
	code
)

// block is a part of a page that stands on lines of its own.
type block struct {
	kind  kind
	level int        // of a heading, from 1
	text  string     // of a heading and of a paragraph, in one line; of code, its lines
	items []string   // of a list, each in one line
	rows  [][]string // of a table
}

// parse takes a page apart. It knows the Markdown that the pages use and no other: headings with #, paragraphs, lists with "- "
// and "1. ", tables, and code between lines of ```.
func parse(text string) (blocks []block) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); {
		line := lines[i]
		switch {
		case line == "":
			i++
		case strings.HasPrefix(line, "```"):
			end := i + 1
			for end < len(lines) && lines[end] != "```" {
				end++
			}
			blocks = append(blocks, block{kind: code, text: strings.Join(lines[i+1:min(end, len(lines))], "\n")})
			i = end + 1
		case strings.HasPrefix(line, "#"):
			title := strings.TrimLeft(line, "#")
			blocks = append(blocks, block{kind: heading, level: len(line) - len(title), text: strings.TrimSpace(title)})
			i++
		case strings.HasPrefix(line, "| "):
			b := block{kind: table}
			for ; i < len(lines) && strings.HasPrefix(lines[i], "| "); i++ {
				if !strings.HasPrefix(lines[i], "| ---") {
					b.rows = append(b.rows, cells(lines[i]))
				}
			}
			blocks = append(blocks, b)
		case itemOf(line) != "":
			b := block{kind: list}
			if line[0] != '-' {
				b.kind = numbered
			}
			for ; i < len(lines) && lines[i] != ""; i++ {
				if item := itemOf(lines[i]); item != "" {
					b.items = append(b.items, item)
				} else {
					b.items[len(b.items)-1] += " " + strings.TrimSpace(lines[i])
				}
			}
			blocks = append(blocks, b)
		default:
			end := i + 1
			for end < len(lines) && lines[end] != "" && itemOf(lines[end]) == "" && !strings.HasPrefix(lines[end], "```") {
				end++
			}
			blocks = append(blocks, block{kind: paragraph, text: strings.Join(lines[i:end], " ")})
			i = end
		}
	}
	return blocks
}

// itemOf is the text of the line that begins an item of a list; empty for any other.
func itemOf(line string) string {
	number, item, ok := strings.Cut(line, " ")
	if ok && (number == "-" || len(number) == 2 && number[0] >= '1' && number[0] <= '9' && number[1] == '.') {
		return item
	}
	return ""
}

// cells are those of a row. A | within code is none of the table's.
func cells(line string) (row []string) {
	within, from := false, 1
	for i := 1; i < len(line); i++ {
		switch {
		case line[i] == '`':
			within = !within
		case line[i] == '|' && !within:
			row = append(row, strings.TrimSpace(line[from:i]))
			from = i + 1
		}
	}
	return row
}

// span is a piece of text in one style. target is where it leads, empty for nowhere.
type span struct {
	text              string
	code, bold, slant bool
	target            string
}

// spans takes the text of a line apart: `code`, **bold**, *slanted*, [text](target), <address>.
func spans(text string) []span { return style(text, span{}) }

func style(text string, outer span) (all []span) {
	plain := 0
	flush := func(end int) {
		if end > plain {
			s := outer
			s.text = text[plain:end]
			all = append(all, s)
		}
	}
	for i := 0; i < len(text); {
		inner, length, now := "", 0, outer
		switch rest := text[i:]; {
		case rest[0] == '`':
			inner, length = between(rest, "`", "`")
			now.code = true
		case strings.HasPrefix(rest, "**"):
			inner, length = between(rest, "**", "**")
			now.bold = true
		case rest[0] == '*':
			inner, length = between(rest, "*", "*")
			now.slant = true
		case rest[0] == '[':
			if inner, length = between(rest, "[", "]("); length > 0 {
				target, more := between(rest[length-1:], "(", ")")
				now.target, length = target, length-1+more
				if more == 0 {
					length = 0
				}
			}
		case strings.HasPrefix(rest, "<http"):
			inner, length = between(rest, "<", ">")
			now.target = inner
		}
		if length == 0 {
			i++
			continue
		}
		flush(i)
		if i, plain = i+length, i+length; now.code {
			now.text = inner
			all = append(all, now)
		} else {
			all = append(all, style(inner, now)...)
		}
	}
	flush(len(text))
	return all
}

// between is what stands between two marks at the beginning of a text, and how long all of it is: 0 without the second one, or with
// nothing or a space behind the first.
func between(text, from, to string) (inner string, length int) {
	inner, _, ok := strings.Cut(text[len(from):], to)
	if !ok || inner == "" || inner[0] == ' ' && from != "`" {
		return "", 0
	}
	return inner, len(from) + len(inner) + len(to)
}

// anchor is the name by which a link finds a heading, as GitHub makes it.
func anchor(title string) string {
	var name strings.Builder
	for _, s := range spans(title) {
		for _, r := range strings.ToLower(s.text) {
			switch {
			case r == ' ':
				name.WriteByte('-')
			case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r > 127:
				name.WriteRune(r)
			}
		}
	}
	return name.String()
}
