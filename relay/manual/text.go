package manual

import (
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	margin   = 2
	codeLeft = 4
	gap      = 2 // between the columns of a table
	// A column narrower than leastColumn is no column to read a text of more than some words in.
	leastColumn = 18
	fewWords    = 40
	shortText   = 26
)

// Text is a page for people who read it in a terminal of so many columns, or from a pipe; the name "" is that of the list of all
// pages. bold says that the terminal shows what is bold. No line is longer than width but for code and single words. ok is false
// when there is no such page.
func Text(name string, width int, bold bool) (text string, ok bool) {
	p := &printer{width: max(width, 40), bold: bold}
	if name == "" {
		p.underline("The manual", 1)
		p.WriteByte('\n')
		longest := 0
		for _, page := range Names() {
			longest = max(longest, len(page))
		}
		for _, page := range Names() {
			p.wrap(words(Title(page)), page+strings.Repeat(" ", longest-len(page)+gap), margin)
		}
		return p.String(), true
	}
	raw, ok := Page(name)
	if !ok {
		return "", false
	}
	for i, b := range parse(raw) {
		if i > 0 {
			p.WriteByte('\n')
		}
		p.block(b)
	}
	return p.String(), true
}

type printer struct {
	strings.Builder
	width int
	bold  bool
}

// word is what no line ends within.
type word struct {
	text string
	bold bool
}

func (w word) width() int { return utf8.RuneCountInString(w.text) }

// words are those of a text. A link is followed by the page that it leads to.
func words(text string) (all []word) {
	var now word // which goes on in the next span, unless a space is between them
	end := func() {
		if now.text != "" {
			all = append(all, now)
		}
		now = word{}
	}
	for _, s := range spans(text) {
		piece := s.text
		if s.code {
			piece = "`" + piece + "`"
		}
		if page, _, _ := strings.Cut(s.target, "#"); strings.HasSuffix(page, ".md") {
			piece += " (help " + strings.TrimSuffix(page, ".md") + ")"
		} else if page != "" && page != s.text {
			piece += " (" + page + ")"
		}
		for i, part := range strings.Split(piece, " ") {
			if i > 0 {
				end()
			}
			now.text, now.bold = now.text+part, now.bold || s.bold && part != ""
		}
	}
	end()
	return all
}

func (p *printer) block(b block) {
	switch b.kind {
	case heading:
		p.underline(b.text, b.level)
	case paragraph:
		p.wrap(words(b.text), "", margin)
	case list, numbered:
		for i, item := range b.items {
			mark := "- "
			if b.kind == numbered {
				mark = string(rune('1'+i)) + ". "
			}
			p.wrap(words(item), mark, margin)
		}
	case table:
		p.table(b.rows)
	case code:
		for line := range strings.SplitSeq(b.text, "\n") {
			if line != "" {
				p.WriteString(strings.Repeat(" ", codeLeft) + line)
			}
			p.WriteByte('\n')
		}
	}
}

// underline writes a heading.
func (p *printer) underline(text string, level int) {
	all := words(text)
	for i := range all {
		all[i].bold = true
	}
	longest := 0
	for _, line := range lines(all, p.width) {
		p.line(line, 0)
		longest = max(longest, lineWidth(line))
	}
	if level < 3 {
		p.WriteString(strings.Repeat(map[int]string{1: "=", 2: "-"}[level], longest) + "\n")
	}
}

// lines breaks words into lines of at most width, but for words that are longer.
func lines(all []word, width int) (broken [][]word) {
	var now []word
	length := 0
	for _, w := range all {
		if len(now) > 0 && length+1+w.width() > width {
			broken = append(broken, now)
			now, length = nil, 0
		}
		if len(now) > 0 {
			length++
		}
		now, length = append(now, w), length+w.width()
	}
	return append(broken, now)
}

func lineWidth(line []word) (n int) {
	for _, w := range line {
		n += w.width() + 1
	}
	return max(n-1, 0)
}

// line writes a line that begins at a column, and its end.
func (p *printer) line(line []word, from int) {
	if len(line) > 0 {
		p.WriteString(strings.Repeat(" ", from))
	}
	p.words(line)
	p.WriteByte('\n')
}

func (p *printer) words(line []word) {
	for i, w := range line {
		if i > 0 {
			p.WriteByte(' ')
		}
		if w.bold && p.bold {
			p.WriteString("\x1b[1m" + w.text + "\x1b[0m")
		} else {
			p.WriteString(w.text)
		}
	}
}

// wrap writes words behind a mark, all lines beginning where the first does.
func (p *printer) wrap(all []word, mark string, from int) {
	hang := from + utf8.RuneCountInString(mark)
	for i, line := range lines(all, p.width-hang) {
		if i == 0 && mark != "" {
			p.WriteString(strings.Repeat(" ", from) + mark)
			p.line(line, 0)
			continue
		}
		p.line(line, hang)
	}
}

// table writes rows side by side when each column has room to be read, else one below the other.
func (p *printer) table(rows [][]string) {
	grid := make([][][]word, len(rows))
	for i, row := range rows {
		grid[i] = make([][]word, len(row))
		for j, cell := range row {
			grid[i][j] = words(cell)
			for k := range grid[i][j] {
				grid[i][j][k].bold = grid[i][j][k].bold || i == 0
			}
		}
	}
	if widths := columns(grid, p.width-margin); widths != nil {
		p.columns(grid, widths)
		return
	}
	for i, row := range grid {
		if i > 0 {
			p.WriteByte('\n')
		}
		p.wrap(row[0], "", margin)
		for j, cell := range row[1:] {
			if len(cell) == 0 {
				continue
			}
			if head := grid[0][j+1]; i > 0 && len(row) > 2 && len(head) > 0 { // which column it is
				cell = slices.Concat(head[:len(head)-1], []word{{head[len(head)-1].text + ":", true}}, cell)
			}
			p.wrap(cell, "", margin+codeLeft)
		}
	}
}

// columns are the widths of a table's columns: as wide as what is in them, or else sharing the room. nil when a text would stand in
// a column that is too narrow for it.
func columns(grid [][][]word, room int) (widths []int) {
	wanted := make([]int, len(grid[0]))
	widths = make([]int, len(grid[0]))
	for _, row := range grid {
		for j, cell := range row {
			wanted[j] = max(wanted[j], lineWidth(cell))
			for _, w := range cell {
				widths[j] = max(widths[j], w.width())
			}
		}
	}
	room -= gap * (len(widths) - 1)
	for _, w := range widths {
		room -= w
	}
	if room < 0 {
		return nil
	}
	for j := range widths { // short texts stand on one line
		if more := wanted[j] - widths[j]; wanted[j] <= shortText && more <= room {
			widths[j], room = wanted[j], room-more
		}
	}
	for ; room > 0; room-- {
		most := -1
		for j := range widths {
			if widths[j] < wanted[j] && (most < 0 || wanted[j]*widths[most] > wanted[most]*widths[j]) {
				most = j
			}
		}
		if most < 0 {
			break
		}
		widths[most]++
	}
	for j := range widths {
		if widths[j] < leastColumn && wanted[j] > fewWords {
			return nil
		}
	}
	return widths
}

func (p *printer) columns(grid [][][]word, widths []int) {
	apart := false // rows of several lines are told apart by an empty one
	for _, row := range grid {
		for j, cell := range row {
			apart = apart || len(lines(cell, widths[j])) > 1
		}
	}
	for i, row := range grid {
		if i > 0 && apart {
			p.WriteByte('\n')
		}
		var broken [][][]word
		height := 0
		for j, cell := range row {
			broken = append(broken, lines(cell, widths[j]))
			height = max(height, len(broken[j]))
		}
		for k := range height {
			at, from := 0, margin
			for j := range row {
				if k < len(broken[j]) && len(broken[j][k]) > 0 {
					p.WriteString(strings.Repeat(" ", from-at))
					p.words(broken[j][k])
					at = from + lineWidth(broken[j][k])
				}
				from += widths[j] + gap
			}
			p.WriteByte('\n')
		}
	}
}
