package identity

import (
	"fmt"
	"time"

	"go.uber.org/zap"
)

// thresholds are the days before the end at which a warning is given once.
// Below the last one there is a warning every day.
var thresholds = []int{7, 14, 30, 60}

// warn logs what nears its end, and what has ended. What we renew ourselves is
// mentioned only when that has failed: until then it is no news for anybody.
// The memory is this process's: a restart warns once more.
func (k *Keeper) warn(items []Item) {
	now := k.cfg.Clock()
	said := make(map[string]string, len(items))
	for _, i := range items {
		key := string(i.Kind) + "\x00" + i.Name + "\x00" + i.SHA256
		mark := i.mark(now)
		if i.Kind == KindRAPrevious {
			continue
		}
		said[key] = mark
		if mark == "" || k.said[key] == mark {
			continue
		}
		fields := []zap.Field{
			zap.String("name", i.Name), zap.String("kind", string(i.Kind)), zap.String("subject", i.Subject), zap.String("source", i.Source),
			zap.Time("not_after", i.NotAfter), zap.Int("days_left", int(i.NotAfter.Sub(now)/day)), zap.String("next", i.Next), zap.String("problem", i.Problem),
		}
		if i.ended(now) {
			k.cfg.Log.Error("own certificate has expired", fields...)
		} else if i.nears(now) {
			k.cfg.Log.Warn("own certificate ends soon", fields...)
		} else {
			k.cfg.Log.Warn("own certificate has a problem", fields...)
		}
	}
	k.said = said
}

// mark names the stage that an item is in; a stage is mentioned once.
func (i Item) mark(now time.Time) string {
	left := i.NotAfter.Sub(now)
	switch {
	case i.ended(now):
		return fmt.Sprintf("ended %d", int(left/day))
	case !i.nears(now) && i.Managed: // what failed was logged when it did
		return ""
	case !i.nears(now):
		return i.Problem
	case left < time.Duration(thresholds[0])*day:
		return fmt.Sprintf("last %d", int(left/day))
	}
	for _, days := range thresholds {
		if left <= time.Duration(days)*day {
			return fmt.Sprintf("within %d", days)
		}
	}
	return i.Problem
}

// nears tells whether an end is near enough to speak of it: within the last
// third of the life, and the largest threshold.
func (i Item) nears(now time.Time) bool {
	if i.NotAfter.IsZero() || i.Managed && i.Problem == "" {
		return false
	}
	left, life := i.NotAfter.Sub(now), i.NotAfter.Sub(i.NotBefore)
	return left <= time.Duration(thresholds[len(thresholds)-1])*day && (i.NotBefore.IsZero() || left <= life/3)
}
