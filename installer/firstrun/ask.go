package firstrun

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// maxAnswer is how long a line of an answer may be, and maxTries how often a
// question is repeated.
const (
	maxAnswer = 4096
	maxTries  = 5
)

// ErrNotConfirmed says that a person did not want what was shown.
var ErrNotConfirmed = errors.New("not confirmed: nothing was written")

// Interview asks a person for options. It writes nothing but its questions.
type Interview struct {
	out   io.Writer
	lines <-chan string // closed at the end of the input
	given func(flag string) bool
}

// NewInterview asks on out and reads answers, a line each, from in. given
// tells which flags, without dashes, were there already: what they say is not
// asked for.
func NewInterview(in io.Reader, out io.Writer, given func(flag string) bool) *Interview {
	lines := make(chan string)
	go func() { // a read cannot be interrupted: it is left behind when the program ends
		defer close(lines)
		s := bufio.NewScanner(in)
		s.Buffer(make([]byte, 0, 256), maxAnswer)
		for s.Scan() {
			lines <- s.Text()
		}
	}()
	return &Interview{out: out, lines: lines, given: given}
}

// question is one thing to ask for.
type question struct {
	flag    string
	text    string
	hint    string   // a second line; "": none
	choices []string // of which the answer is one, by its name or number
	def     string   // shown in brackets, and taken for an empty answer; "": there must be one
	check   func(string) error
	set     func(string)
}

// Ask fills in what is open. It ends without an answer when ctx does, or the
// input.
func (iv *Interview) Ask(ctx context.Context, o *Options) error {
	for _, part := range []func(*Options) []question{askHost, askCA, askMicrosoft, askOwnAccount, askAccount, askPolicy, askIntune, askPlaces} {
		for _, q := range part(o) { // later parts depend on earlier answers
			if iv.given(q.flag) {
				continue
			}
			if err := iv.ask(ctx, q); err != nil {
				return err
			}
		}
	}
	return nil
}

// Confirm shows what was decided and asks whether to do it.
func (iv *Interview) Confirm(ctx context.Context, p *Plan) error {
	iv.printf("\nThis will be set up:\n\n")
	for _, line := range p.Summary() {
		iv.printf("  %-12s %s\n", line[0], printable(line[1]))
	}
	iv.printf("\nNothing was written so far.\n")
	yes := ""
	err := iv.ask(ctx, question{text: "Set it up (yes or no)", def: "yes", choices: []string{"yes", "no"}, set: func(s string) { yes = s }})
	if err == nil && yes != "yes" {
		return ErrNotConfirmed
	}
	return err
}

// ask repeats a question until the answer is one.
func (iv *Interview) ask(ctx context.Context, q question) error {
	if q.hint != "" {
		iv.printf("\n%s\n", q.hint)
	}
	for i, c := range q.choices {
		if q.def != "yes" {
			iv.printf("  %d. %s\n", i+1, c)
		}
	}
	for range maxTries {
		if q.def == "" {
			iv.printf("%s: ", q.text)
		} else {
			iv.printf("%s [%s]: ", q.text, printable(q.def))
		}
		var line string
		select {
		case <-ctx.Done():
			iv.printf("\n")
			return errors.New("interrupted: nothing was written")
		case l, ok := <-iv.lines:
			if !ok {
				iv.printf("\n")
				return errors.New("the answers ended: nothing was written")
			}
			line = strings.TrimSpace(l)
		}
		answer, err := q.read(line)
		if err == nil {
			q.set(answer)
			return nil
		}
		iv.printf("  %s\n", printable(err.Error()))
	}
	return fmt.Errorf("no answer that can be used to %q: nothing was written", q.text)
}

// read takes a line for an answer, or says why it is none.
func (q question) read(line string) (string, error) {
	if line == "" {
		line = q.def
	}
	if line == "" {
		return "", errors.New("an answer is needed here")
	}
	if len(q.choices) > 0 {
		if n, err := strconv.Atoi(line); err == nil && n >= 1 && n <= len(q.choices) {
			line = q.choices[n-1]
		}
		i := slices.IndexFunc(q.choices, func(c string) bool {
			name, _, _ := strings.Cut(c, " ")
			return strings.EqualFold(name, line) || strings.EqualFold(c, line) || len(line) == 1 && q.def == "yes" && strings.HasPrefix(name, strings.ToLower(line))
		})
		if i < 0 {
			return "", fmt.Errorf("%q is none of them", line)
		}
		line, _, _ = strings.Cut(q.choices[i], " ")
	}
	if q.check != nil {
		return line, q.check(line)
	}
	return line, nil
}

func (iv *Interview) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(iv.out, format, args...) // whoever closed the terminal cannot answer either
}
