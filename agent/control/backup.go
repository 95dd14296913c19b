package control

import (
	"context"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// Backuper copies the journal while the service runs.
type Backuper interface {
	// Backup writes a copy to an absolute path that is not there yet, on the
	// service's machine and as its account.
	Backup(ctx context.Context, file string) (JournalInfo, error)
	// JournalInfo tells about the journal that is in use.
	JournalInfo(ctx context.Context) (JournalInfo, error)
}

// JournalInfo is what a journal, or a copy of one, says about itself.
type JournalInfo struct {
	Path         string    `json:"path"`
	Schema       int       `json:"schema"`
	Bytes        int64     `json:"bytes"`
	Entries      int64     `json:"entries"`
	Certificates int64     `json:"certificates"` // in the register of embedded CAs
	Jobs         int64     `json:"jobs"`
	Oldest       time.Time `json:"oldest,omitzero"` // when the first enrolment was recorded
	Newest       time.Time `json:"newest,omitzero"`
	RestoredAt   time.Time `json:"restored_at,omitzero"`
	MadeAt       time.Time `json:"made_at,omitzero"` // of a copy
	MadeBy       string    `json:"made_by,omitempty"`
}

// backupWithin bounds one backup: a large journal on a slow disk takes a while.
const backupWithin = time.Hour

// target is the body of a backup request.
type target struct {
	File string `json:"file"`
}

func (s *server) backup(w http.ResponseWriter, r *http.Request) {
	var b target
	if !read(w, r, &b) {
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(backupWithin)) // without it a long one is cut off
	ctx, cancel := context.WithTimeout(r.Context(), backupWithin)
	defer cancel()
	info, err := s.svc.Backup(ctx, b.File)
	s.audit(r, "journal backed up", err, zap.String("file", b.File), zap.Int64("entries", info.Entries))
	answer(w, info, err)
}

func (s *server) journalInfo(w http.ResponseWriter, r *http.Request) {
	info, err := s.svc.JournalInfo(r.Context())
	answer(w, info, err)
}

// Backup has a copy of the journal written to an absolute path.
func (c *Client) Backup(ctx context.Context, file string) (JournalInfo, error) {
	var info JournalInfo
	err := c.do(ctx, http.MethodPost, "/v1/journal/backup", target{File: file}, &info)
	return info, err
}

// JournalInfo asks about the journal that is in use.
func (c *Client) JournalInfo(ctx context.Context) (JournalInfo, error) {
	var info JournalInfo
	err := c.do(ctx, http.MethodGet, "/v1/journal", nil, &info)
	return info, err
}
