package sqlite

import (
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// row is an entry and the token of who may change it.
type row struct {
	journal.Entry
	token int64
}

// scanEntry reads entryColumns.
func scanEntry(s *stmt) (r row) {
	e := &r.Entry
	e.ID = s.colInt()
	e.State = journal.State(s.colInt())
	r.token = s.colInt()
	e.NextAt = s.colTime()
	e.Now = s.colTime()
	e.UpdatedAt = s.colTime()
	e.Endpoint = s.colText()
	e.Tenant = s.colText()
	e.TransactionID = s.colText()
	e.SignerKey = s.colDigest()
	e.SignerID = s.colDigest()
	e.CSRDigest = s.colDigest()
	e.CSRKey = s.colDigest()
	e.Names = s.colDigest()
	e.ChallengeID = s.colText()
	e.CA = s.colText()
	e.Template = s.colText()
	e.Subject = s.colText()
	e.MaxValidity = time.Duration(s.colInt())
	e.Notify = s.colInt() != 0
	e.GiveUp = s.colTime()
	e.Attempts = int(s.colInt())
	e.SubmittedAt = s.colTime()
	e.Resubmitted = s.colInt() != 0
	e.CARequestID = s.colText()
	e.Serial = s.colText()
	e.Failure = scanFailure(s)
	e.Certificate = s.colBlob()
	e.SealedCSR = s.colBlob()
	return r
}

func scanFailure(s *stmt) *journal.Failure {
	none := s.colNull()
	f := journal.Failure{Rule: s.colText(), FailInfo: int(s.colInt()), HResult: int32(s.colInt()), Text: s.colText()}
	if none {
		return nil
	}
	return &f
}

func bindFailure(s *stmt, f *journal.Failure) {
	if f == nil {
		s.null().null().null().null()
		return
	}
	s.text(f.Rule).int(int64(f.FailInfo)).int(int64(f.HResult)).text(f.Text)
}

// load reads one entry; journal.ErrNotFound when there is none.
func load(c *conn, id int64) (row, error) {
	s, err := c.use(entryByID)
	if err != nil {
		return row{}, err
	}
	return single(s.int(id))
}

// single reads the only row of a statement that was bound.
func single(s *stmt) (row, error) {
	found, err := s.step()
	if err != nil {
		return row{}, err
	}
	if !found {
		return row{}, journal.ErrNotFound
	}
	r := scanEntry(s)
	s.reset()
	return r, nil
}

// store writes what changes in an entry's life. The sealed CSR is only ever
// wiped.
func store(c *conn, e *journal.Entry, held bool, newCertificate []byte, wipe bool) error {
	s, err := c.use(updateEntry)
	if err != nil {
		return err
	}
	s.int(int64(e.State)).bool(held)
	bindNextAt(s, e.NextAt)
	s.time(e.UpdatedAt).time(e.GiveUp).int(int64(e.Attempts)).time(e.SubmittedAt).bool(e.Resubmitted).text(e.CARequestID).text(e.Serial)
	bindFailure(s, e.Failure)
	return s.blob(newCertificate).bool(wipe).int(e.ID).exec()
}

func bindNextAt(s *stmt, t time.Time) {
	if t.IsZero() {
		s.null()
		return
	}
	s.time(t)
}

// ids reads a column of row numbers.
func ids(s *stmt) ([]int64, error) {
	var list []int64
	for {
		found, err := s.step()
		if err != nil || !found {
			return list, err
		}
		list = append(list, s.colInt())
	}
}
