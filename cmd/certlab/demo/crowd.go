package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// crowdSize is how many devices enrol at a time.
const crowdSize = 4

// crowd are devices that enrol one after the other, all the time.
type crowd struct {
	world *world
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu        sync.Mutex
	delivered []*delivery
	failed    []error
}

// gather has devices of all platforms enrol until the crowd goes home.
func (w *world) gather(ctx context.Context) *crowd {
	ctx, stop := context.WithCancel(ctx)
	c := &crowd{world: w, stop: stop}
	platforms := scepclient.Platforms()
	for i := range crowdSize {
		c.done.Go(func() {
			for ; ctx.Err() == nil; i++ {
				// What has begun is brought to its end: who is sent home is no failure.
				c.one(context.WithoutCancel(ctx), platforms[i%len(platforms)])
			}
		})
	}
	return c
}

// one is a device that enrols with a challenge of its own.
func (c *crowd) one(ctx context.Context, platform string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	h, err := c.world.holding(ctx, platform)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed = append(c.failed, fmt.Errorf("%s: %w", platform, err))
		return
	}
	c.delivered = append(c.delivered, &delivery{platform: platform, holding: h})
}

// holding is what a device gets that enrols.
func (w *world) holding(ctx context.Context, platform string) (*device.Holding, error) {
	challenge, err := w.cloud.Challenge(ctx, intunetest.Ask{Platform: platform})
	if err != nil {
		return nil, err
	}
	d, err := w.device(platform, w.made.SCEPURL)
	if err != nil {
		return nil, err
	}
	a, err := d.Enroll(ctx, device.Order{Profile: device.Profiled(challenge)}, nil)
	if err != nil {
		return nil, err
	}
	if a.Status() != scep.Success {
		return nil, fmt.Errorf("answered with %v %v %s", a.Status(), a.Reply.FailInfo, a.Reply.FailInfoText)
	}
	return a.Issued(), nil
}

// count tells how many have their certificates, and how many failed.
func (c *crowd) count() (delivered, failed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.delivered), len(c.failed)
}

// more waits until as many more have enrolled as there are devices at a time,
// twice: then some have begun and ended since.
func (c *crowd) more(ctx context.Context) error {
	before, _ := c.count()
	return until(ctx, patience, func() error {
		now, failed := c.count()
		switch {
		case failed > 0:
			return final{c.err()}
		case now < before+2*crowdSize:
			return fmt.Errorf("%d devices enrolled", now-before)
		}
		return nil
	})
}

// home ends the crowd, and hands over what it got.
func (c *crowd) home() error {
	c.stop()
	c.done.Wait()
	c.world.delivered = append(c.world.delivered, c.delivered...)
	c.delivered = nil
	return c.err()
}

func (c *crowd) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failed) == 0 {
		return nil
	}
	return fmt.Errorf("%d enrolments failed: %w", len(c.failed), errors.Join(c.failed...))
}
