package intune

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Calls are the names of all exchanges with the cloud. Those of revocations are
// the last segments of Endpoints.DownloadAction and UploadAction; here are the
// usual ones.
var Calls = []string{
	callToken, callDiscovery, suffixName(actionValidate), suffixName(actionSuccess), suffixName(actionFailure),
	callApplication, callAddKey, callRemoveKey, callUser, callCreatePFX, callReadPFX, callDeletePFX,
	suffixName(defaultDownloadAction), suffixName(defaultUploadAction),
}

// The calls that vouching and telling are made of, as Observe names them.
var (
	ValidateCalls = []string{callToken, callDiscovery, suffixName(actionValidate)}
	NotifyCalls   = []string{callToken, callDiscovery, suffixName(actionSuccess), suffixName(actionFailure)}
)

// observe tells of an exchange that is over. It is deferred, hence the pointer.
func (c *Client) observe(call string, began time.Time, err *error) {
	if c.config.Observe != nil {
		c.config.Observe(call, time.Since(began), *err)
	}
}

// Class is how an exchange ended, in one word for metrics and health pages.
type Class string

// The classes.
const (
	ClassOK        Class = "ok"
	ClassRefused   Class = "refused"   // our credential, permission or call was not taken
	ClassThrottled Class = "throttled" // HTTP 429
	ClassFailed    Class = "failed"    // HTTP 5xx, or what Entra ID calls temporary
	ClassNetwork   Class = "network"   // no whole answer came
	ClassProtocol  Class = "protocol"  // the answer could not be understood
	ClassCancelled Class = "cancelled" // we did not wait for the answer: says nothing about the cloud
)

// Classes are all there are.
var Classes = []Class{ClassOK, ClassRefused, ClassThrottled, ClassFailed, ClassNetwork, ClassProtocol, ClassCancelled}

// Classify returns the class of what Observe was told.
func Classify(err error) Class {
	if err == nil {
		return ClassOK
	}
	if errors.Is(err, context.Canceled) {
		return ClassCancelled
	}
	if e, ok := errors.AsType[*HTTPError](err); ok {
		return classOf(e.Status, false)
	}
	if e, ok := errors.AsType[*AuthError](err); ok {
		return classOf(e.Status, e.Retryable)
	}
	if _, ok := errors.AsType[*NetworkError](err); ok {
		return ClassNetwork
	}
	return ClassProtocol
}

func classOf(status int, passes bool) Class {
	switch {
	case status == http.StatusTooManyRequests:
		return ClassThrottled
	case status >= 500 || passes:
		return ClassFailed
	}
	return ClassRefused
}
