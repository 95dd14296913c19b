// Package intune asks Microsoft Intune, through its documented partner API for
// third-party certification authorities, whether a SCEP request may have a
// certificate, and tells it what became of the request.
//
// One question takes up to five calls: a token for Microsoft Graph, the
// address of the tenant's scale unit from Graph, a token for Intune, the
// question itself (ScepActions/validateRequest), and later a notification
// (ScepActions/successNotification or failureNotification). Tokens and
// addresses are kept; a Client belongs to one tenant, is safe for concurrent
// use and runs nothing in the background.
//
// # The double slash
//
// Microsoft's reference library asks for the scope
// "https://api.manage.microsoft.com//.default", with two slashes: the resource
// URL ends in a slash and "/.default" is appended to it. Entra ID removes one
// slash and ".default" and puts the rest into the token's aud claim, so that
// the double slash gives an audience with a trailing slash. azidentity hands
// the scope on as it is (it neither joins nor cleans the path) and adds
// "openid offline_access profile" behind it, which Entra ID ignores in the
// client credentials flow; a test of this package watches both on the wire.
//
// # What is never shown
//
// No token, client secret, assertion, challenge or certificate request appears
// in an error or a log line, not even when the cloud echoes one in a reply:
// foreign text passes through clean before it is kept.
package intune
