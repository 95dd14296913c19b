package jobqueuetest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// The events that make the state.
const (
	added     = "added"
	offered   = "offered"
	resulted  = "result"
	forgotten = "forgotten"
)

// event is one line of the StateFile.
type event struct {
	Kind     string          `json:"kind"`
	Context  string          `json:"context,omitempty"`
	Contexts []string        `json:"contexts,omitempty"`
	Job      json.RawMessage `json:"job,omitempty"`
	Result   *Result         `json:"result,omitempty"`
	At       time.Time       `json:"at,omitzero"`
	Until    time.Time       `json:"until,omitzero"`
}

// note makes an event durable and then true.
func (q *Queue) note(e event) error {
	if err := q.file.append(e); err != nil {
		return err
	}
	q.replay(e)
	return nil
}

// replay changes the state as an event says.
func (q *Queue) replay(e event) {
	switch e.Kind {
	case added:
		j := q.jobs[e.Context]
		if j == nil {
			j = &job{}
			q.jobs[e.Context] = j
			q.order = append(q.order, e.Context)
		}
		j.content, j.leased = e.Job, time.Time{}
	case offered:
		q.lastDownload = e.At
		for _, context := range e.Contexts {
			if j := q.jobs[context]; j != nil {
				j.leased = e.Until
				j.offered++
			}
		}
	case resulted:
		if j := q.jobs[e.Context]; j != nil {
			times := 1
			if j.result != nil {
				times = j.result.Times + 1
			}
			r := *e.Result
			r.Times = times
			j.result = &r
		}
	case forgotten:
		if j := q.jobs[e.Context]; j != nil {
			j.result, j.leased = nil, time.Time{}
		}
	}
}

// stateFile appends synced lines; nil keeps nothing.
type stateFile struct{ f *os.File }

// openState reads all whole lines; one that a kill cut off is removed.
func openState(path string, replay func(event)) (*stateFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	whole := int64(0)
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		var e event
		if err == nil {
			err = json.Unmarshal(line, &e)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("line at octet %d: %w", whole, err), f.Close())
		}
		whole += int64(len(line))
		replay(e)
	}
	_, err = f.Seek(whole, io.SeekStart)
	if err = errors.Join(f.Truncate(whole), err); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &stateFile{f}, nil
}

func (s *stateFile) append(e event) error {
	if s == nil {
		return nil
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := s.f.Write(append(line, '\n')); err != nil {
		return err
	}
	return s.f.Sync()
}

func (s *stateFile) close() error {
	if s == nil {
		return nil
	}
	return s.f.Close()
}
