package intune_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/certconnector/certconnector/intune"
)

func TestClassOfAnExchange(t *testing.T) {
	for _, row := range []struct {
		name string
		err  error
		want intune.Class
	}{
		{"an answer", nil, intune.ClassOK},
		{"a permission that is missing", &intune.HTTPError{Status: 403}, intune.ClassRefused},
		{"too many calls", &intune.HTTPError{Status: 429}, intune.ClassThrottled},
		{"the service is down", &intune.HTTPError{Status: 503}, intune.ClassFailed},
		{"a credential that is refused", &intune.AuthError{Status: 401, AADSTS: 7000215}, intune.ClassRefused},
		{"Entra ID says it will pass", &intune.AuthError{Status: 400, Retryable: true}, intune.ClassFailed},
		{"no answer", &intune.NetworkError{Err: errors.New("reset")}, intune.ClassNetwork},
		{"time ran out", &intune.NetworkError{Err: context.DeadlineExceeded}, intune.ClassNetwork},
		{"we hung up", &intune.NetworkError{Err: fmt.Errorf("sending: %w", context.Canceled)}, intune.ClassCancelled},
		{"a page of a proxy", &intune.ProtocolError{}, intune.ClassProtocol},
		{"anything else", errors.New("else"), intune.ClassProtocol},
	} {
		if got := intune.Classify(row.err); got != row.want {
			t.Errorf("%s is %s, want %s", row.name, got, row.want)
		}
	}
}
