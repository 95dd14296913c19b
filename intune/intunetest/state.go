package intunetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// Kinds of lines in the state file. A notification's line has no kind.
const (
	kindRevocation = "revocation_result"
	kindPFX        = "pfx"
	kindNoPFX      = "pfx_deleted"
)

// stateLine is a line of the state file that is no notification.
type stateLine struct {
	Kind       string            `json:"kind"`
	Revocation *RevocationResult `json:"revocation_result,omitempty"`
	PFX        *PFX              `json:"pfx,omitempty"`
}

// State is what a cloud has taken, as its state file tells.
type State struct {
	Notifications []Notification
	Results       []RevocationResult // of revocations, also those that say the same again
	PFX           []PFX              // that are not deleted
}

// ReadState reads a state file, also while a cloud writes it or after it was
// killed: a last line that is not whole is passed over.
func ReadState(path string) (State, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return State{}, fmt.Errorf("reading the simulator's state file: %w", err)
	}
	var s State
	for line := range bytes.Lines(data) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		if err := s.add(line); err != nil {
			return s, fmt.Errorf("state file %q: %w", path, err)
		}
	}
	return s, nil
}

func (s *State) add(line []byte) error {
	var l stateLine
	if err := json.Unmarshal(line, &l); err != nil {
		return err
	}
	switch {
	case l.Kind == "":
		var n Notification
		if err := json.Unmarshal(line, &n); err != nil {
			return err
		}
		s.Notifications = append(s.Notifications, n)
	case l.Kind == kindRevocation && l.Revocation != nil:
		s.Results = append(s.Results, *l.Revocation)
	case (l.Kind == kindPFX || l.Kind == kindNoPFX) && l.PFX != nil:
		kept := s.PFX[:0]
		for _, p := range s.PFX {
			if p.Tenant != l.PFX.Tenant || p.ID != l.PFX.ID {
				kept = append(kept, p)
			}
		}
		if s.PFX = kept; l.Kind == kindPFX {
			s.PFX = append(s.PFX, *l.PFX)
		}
	default:
		return errors.New("a line is of an unknown kind")
	}
	return nil
}
