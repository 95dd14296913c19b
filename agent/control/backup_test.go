package control_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/control"
)

func (f *fakeService) Backup(_ context.Context, file string) (control.JournalInfo, error) {
	return control.JournalInfo{Path: file, Entries: 7, MadeAt: time.Unix(1, 0).UTC()}, f.err
}

func (f *fakeService) JournalInfo(context.Context) (control.JournalInfo, error) {
	return control.JournalInfo{Path: "/var/lib/journal.db", Schema: 5}, f.err
}

func TestBackupIsAskedForAndAudited(t *testing.T) {
	svc := &fakeService{}
	c, logs := serve(t, svc)
	info, err := c.Backup(t.Context(), "/backup/today")
	if err != nil || info.Path != "/backup/today" || info.Entries != 7 || !info.MadeAt.Equal(time.Unix(1, 0)) || !info.RestoredAt.IsZero() {
		t.Errorf("%+v, %v", info, err)
	}
	svc.err = &control.Error{Code: control.CodeInvalid, Text: "no absolute path"}
	_, err = c.Backup(t.Context(), "today")
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != control.CodeInvalid {
		t.Errorf("a refused backup = %v", err)
	}
	lines := logs.FilterLoggerName("audit").FilterMessage("journal backed up")
	if lines.Len() != 2 || lines.FilterField(zap.String("file", "/backup/today")).FilterField(zap.Bool("done", true)).Len() != 1 {
		t.Errorf("audit lines: %v", lines.All())
	}
}

func TestJournalTellsOfItself(t *testing.T) {
	c, _ := serve(t, &fakeService{})
	if info, err := c.JournalInfo(t.Context()); err != nil || info.Schema != 5 {
		t.Errorf("%+v, %v", info, err)
	}
}
