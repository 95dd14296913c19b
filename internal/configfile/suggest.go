package configfile

import "strings"

// suggest names the key that was probably meant, or all keys there are.
func suggest(key string, known []string) string {
	if best := nearest(key, known); best != "" {
		return "; did you mean " + best + "?"
	}
	return "; known keys are " + strings.Join(known, ", ")
}

// nearest returns the known key that differs in at most two places and no more
// than half of its letters, "" if there is none.
func nearest(key string, known []string) string {
	best, least := "", 3
	flat := func(s string) string { return strings.ToLower(strings.NewReplacer("-", "_", " ", "_").Replace(s)) }
	if len(key) > 64 {
		return "" // nobody mistyped that
	}
	for _, k := range known {
		if d := distance(flat(key), k); d < least && 2*d <= len(k) {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of letters to insert, remove or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
