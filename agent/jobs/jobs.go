// Package jobs asks sources for work, accepts it durably, hands each job to
// the handler of its kind, and owes the source the result.
package jobs
