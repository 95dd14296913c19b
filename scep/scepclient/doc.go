// Package scepclient is a SCEP client (RFC 8894) that behaves like the
// platforms which enrol in the field: Windows, iOS, macOS, Android and Linux.
// The doctor command, the laboratory and the tests enrol with it.
//
// It is a second opinion: messages are built here and replies are read with
// github.com/smallstep/pkcs7 (by way of internal/cms, which bounds what it
// gives the library), so nothing of the encoder and decoder of package scep is
// shared. Only the names of RFC 8894 (message types, statuses,
// failInfo) come from there.
//
// The usual call is Client.Enroll. Tests that repeat or mutilate a message
// build a Message, change its Raw and hand it to Client.Send.
package scepclient
