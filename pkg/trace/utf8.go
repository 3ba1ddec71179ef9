package trace

import "unicode/utf8"

// unfinished is how many bytes at the end of b are the beginning of a UTF-8 character whose rest may still come: 0 to 3.
func unfinished(b []byte) int {
	for n := 1; n <= min(utf8.UTFMax-1, len(b)); n++ {
		c := b[len(b)-n]
		if utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

// cut is where b is to be split so that the first part has at most max bytes and no character is broken, where b is text.
func cut(b []byte, max int) int {
	if len(b) <= max {
		return len(b)
	}
	return max - unfinished(b[:max])
}
