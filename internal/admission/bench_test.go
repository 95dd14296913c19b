package admission_test

import (
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/admission"
)

// BenchmarkEnter is what the gate costs when nobody waits; BenchmarkChannel a
// channel as a semaphore, which knows no order.
func BenchmarkEnter(b *testing.B) {
	g := admission.New(admission.Config{Slots: 4, Queue: 100, Patience: 5 * time.Second})
	ticket := admission.Ticket{Deadline: time.Now().Add(time.Hour)}
	b.ReportAllocs()
	for b.Loop() {
		leave, err := g.Enter(b.Context(), ticket)
		if err != nil {
			b.Fatal(err)
		}
		leave()
	}
}

func BenchmarkChannel(b *testing.B) {
	slots := make(chan struct{}, 4)
	b.ReportAllocs()
	for b.Loop() {
		select {
		case slots <- struct{}{}:
		default:
			b.Fatal("full")
		}
		<-slots
	}
}

// BenchmarkFlood is a place in a line of 1,500 others, taken and given back.
func BenchmarkFlood(b *testing.B) {
	g := admission.New(admission.Config{Queue: 1500})
	if _, err := g.Enter(b.Context(), admission.Ticket{}); err != nil {
		b.Fatal(err)
	}
	deadline := time.Now().Add(time.Hour)
	for range 1500 {
		go func() { _, _ = g.Enter(b.Context(), admission.Ticket{Deadline: deadline}) }()
	}
	for g.Stats().Devices < 1500 {
		time.Sleep(time.Millisecond)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Enter(b.Context(), admission.Ticket{}); err == nil {
			b.Fatal("not refused")
		}
	}
}
