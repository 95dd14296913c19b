package enroll

import (
	"errors"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/policymodule"
)

// Stage is a part of an enrolment that waits for somebody else.
type Stage string

// The stages, by who is waited for.
const (
	StageAsk   Stage = "ask"   // the policy module says whether it may be
	StageIssue Stage = "issue" // the CA issues; its turn there included
	StageTell  Stage = "tell"  // the policy module is told while the device waits
)

// Stages are all there are.
var Stages = []Stage{StageAsk, StageIssue, StageTell}

// Result is how a stage ended.
type Result string

// The results. A stage that could not reach its neighbour, and is done again
// later, is Unavailable.
const (
	Granted     Result = "granted"     // ask
	Refused     Result = "refused"     // ask, tell: for good
	Issued      Result = "issued"      // issue
	Parked      Result = "parked"      // issue: a person decides
	Denied      Result = "denied"      // issue: for good
	Unknown     Result = "unknown"     // issue: the CA may have issued
	Taken       Result = "taken"       // tell
	Unavailable Result = "unavailable" // any
)

// Results are all there are.
var Results = []Result{Granted, Refused, Issued, Parked, Denied, Unknown, Taken, Unavailable}

// Observer hears of each stage that is over, with the endpoint's name. It must be
// quick and safe for concurrent use.
type Observer interface {
	Stage(endpoint string, s Stage, r Result, took time.Duration)
}

// observe tells the observer, if there is one.
func (p *Endpoint) observe(s Stage, r Result, began time.Time) {
	if o := p.r.cfg.Observer; o != nil {
		o.Stage(p.Name, s, r, time.Since(began))
	}
}

func askResult(d policymodule.Decision, err error) Result {
	switch {
	case err != nil:
		return Unavailable
	case d.Granted:
		return Granted
	}
	return Refused
}

func issueResult(err error) Result {
	var pending *ca.Pending
	var denied *ca.Denied
	switch {
	case err == nil:
		return Issued
	case errors.As(err, &pending):
		return Parked
	case errors.As(err, &denied):
		return Denied
	case errors.Is(err, ca.ErrUnavailable):
		return Unavailable
	}
	return Unknown
}

func tellResult(e journal.Entry, err error) Result {
	switch {
	case err != nil:
		return Unavailable
	case e.State == journal.Released:
		return Taken
	case e.State.Final():
		return Refused
	}
	return Unavailable
}
