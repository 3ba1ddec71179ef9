package main

import (
	"strings"
	"unicode"
)

// plainText is text from a server fit for a line on a terminal: names and commands are chosen by others, and must not move the cursor.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return '\uFFFD'
		}
		return r
	}, s)
}
