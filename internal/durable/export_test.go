package durable

// MakeRestrictedBy is MakeNew with another way to protect the folder.
var MakeRestrictedBy = makeNew
