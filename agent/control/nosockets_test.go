package control

import (
	"context"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// A system without unix sockets keeps no device from its certificate.
func TestWithoutSockets(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := &Listener{}
	if err := l.Serve(ctx, nil, zap.New(core)); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil || logs.Len() != 1 {
		t.Errorf("%d warnings, %v", logs.Len(), err)
	}
}
