package webauth_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/certconnector/certconnector/internal/webauth"
)

// What strangers can repeat fills no log, and one kind of refusal does not hide
// another.
func TestRefusalLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := webauth.NewRefusalLog()
		for _, row := range []struct {
			name  string
			after time.Duration
			err   error
			lines int // of 30 refusals
		}{
			{"no password", 0, &webauth.Refusal{Rule: webauth.RuleNoCredentials}, 0},
			{"no certificate", 0, &webauth.Refusal{Rule: webauth.RuleMissing}, 0},
			{"a source that is limited", 0, &webauth.Refusal{Rule: webauth.RuleLimited}, 0},
			{"wrong passwords, which are limited by source", 0, &webauth.Refusal{Rule: webauth.RuleWrongCredentials}, 30},
			{"certificates of another CA", 0, &webauth.Refusal{Rule: webauth.RuleUntrusted}, 10},
			{"and those of nobody", 0, &webauth.Refusal{Rule: webauth.RuleName}, 10},
			{"passwords without TLS", 0, &webauth.Refusal{Rule: webauth.RuleWithoutTLS}, 10},
			{"another error", 0, errors.New("neither is configured"), 10},
			{"a minute later", time.Minute, &webauth.Refusal{Rule: webauth.RuleUntrusted}, 10},
		} {
			time.Sleep(row.after)
			lines := 0
			for range 30 {
				if l.Level(row.err) == zapcore.WarnLevel {
					lines++
				}
			}
			if lines != row.lines {
				t.Errorf("%s: %d lines, want %d", row.name, lines, row.lines)
			}
		}
	})
}
