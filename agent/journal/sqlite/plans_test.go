package sqlite

import (
	"strings"
	"testing"

	sqlite3 "modernc.org/sqlite/lib"
)

// TestNoStatementReadsEverything asks SQLite how it carries out each prepared
// statement: one that scans a table, or history through an index, would cost
// more with every enrolment recorded.
func TestNoStatementReadsEverything(t *testing.T) {
	c, err := openConn(newJournalFile(t), "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	allowed := map[statement]string{
		// Partial indexes of what is open, and debts, which are few.
		rangeOfOpenEntries: "SCAN entries USING COVERING INDEX entries_due",
		releaseDebts:       "SCAN debts",
		rangeOfPendingJobs: "SCAN jobs USING COVERING INDEX jobs_pending",
		// Sources of jobs are as few as tenants.
		allSources:      "SCAN sources USING INDEX sqlite_autoindex_sources_1",
		workableSources: "SCAN sources",
	}
	for id, sql := range statements {
		s, err := c.prepare("EXPLAIN QUERY PLAN " + sql)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		for {
			row, err := s.step()
			if err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
			if !row {
				break
			}
			s.col = 3
			plan := s.colText()
			if strings.HasPrefix(plan, "SCAN") && plan != allowed[statement(id)] && !strings.HasPrefix(plan, "SCAN CONSTANT") {
				t.Errorf("%s:\n%s", sql, plan)
			}
			if strings.Contains(plan, "debts_kind (kind=?)") && statement(id) != debtStat {
				t.Errorf("%s:\nreads a whole backlog: %s", sql, plan)
			}
			if strings.Contains(plan, "TEMP B-TREE") {
				t.Errorf("%s:\nsorts: %s", sql, plan)
			}
		}
		sqlite3.Xsqlite3_finalize(c.tls, s.handle)
	}
}
