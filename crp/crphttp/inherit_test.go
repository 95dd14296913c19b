package crphttp_test

import (
	"context"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/crp/crphttp"
	"github.com/certconnector/certconnector/policymodule"
)

// replaced are two handlers over one record: while requests are under way, the
// second takes the place of the first.
func replaced(t *testing.T) [2]*stand {
	t.Helper()
	var config crphttp.Config
	s := newStand(t, func(c *crphttp.Config) { config = *c })
	after, err := crphttp.New(config)
	if err != nil {
		t.Fatal(err)
	}
	after.Inherit(s.Handler)
	other := *s
	other.Handler = after
	return [2]*stand{s, &other}
}

func TestIdenticalQuestionsAreJoinedAcrossConfigurations(t *testing.T) {
	both := replaced(t)
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		module := both[0].module
		module.verify = func(ctx context.Context) (policymodule.Decision, error) {
			<-release
			return policymodule.Decision{Granted: true}, ctx.Err()
		}
		var wg sync.WaitGroup
		for _, s := range both {
			wg.Go(func() {
				s.want(t, "question", s.as("scep", crphttp.VerifyPath, question(t, s.request)), 201, "granted")
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		if module.asked != 1 {
			t.Errorf("asked %d times", module.asked)
		}
	})
}

func TestOutcomesWaitForEachOtherAcrossConfigurations(t *testing.T) {
	both := replaced(t)
	module := both[0].module
	both[0].want(t, "verify", both[0].as("scep", crphttp.VerifyPath, question(t, both[0].request)), 201, "granted")
	entered, release := make(chan struct{}, 2), make(chan struct{})
	module.notify = func(context.Context) error {
		entered <- struct{}{}
		<-release
		return nil
	}
	notify := body(t, notifyMembers(issued(t, both[0].request, 1)))
	answers := make([]*httptest.ResponseRecorder, 2)
	var wg sync.WaitGroup
	wg.Go(func() { answers[0] = both[0].as("scep", crphttp.NotifyPath, notify) })
	<-entered
	before := both[0].verdicts.looks()
	wg.Go(func() { answers[1] = both[1].as("scep", crphttp.NotifyPath, notify) })
	for end := time.Now().Add(minute); both[0].verdicts.looks() == before && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // until the second has come as far as the lock
	}
	select {
	case <-entered:
		t.Error("one outcome is told twice at once")
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	wg.Wait()
	for i, a := range answers {
		both[i].want(t, "outcome", a, 204, "")
	}
	if module.heard != 1 {
		t.Errorf("the cloud heard of it %d times", module.heard)
	}
}
