package destination

// Schedule is a message that is sent again and again, as operators see it.
type Schedule struct {
	Name        string `json:"name"`
	Destination string `json:"destination"`
	Kind        Kind   `json:"kind"`
	Cron        string `json:"cron"`           // five fields, or six with seconds first; @hourly and so on; @every 90s
	Zone        string `json:"zone,omitempty"` // of the IANA database; empty is UTC
	StartMS     int64  `json:"start_ms,omitempty"`
	EndMS       int64  `json:"end_ms,omitempty"` // 0 is never
	Count       int64  `json:"count,omitempty"`  // how often it is sent at most; 0 is without end
	Missed      string `json:"missed,omitempty"` // MissedOnce and so on; empty is MissedOnce
	Paused      bool   `json:"paused,omitempty"`
	Batch       []byte `json:"batch"` // one record, as it was given

	CreatedMS int64 `json:"created_ms"`
	Sent      int64 `json:"sent"`              // how often it was
	LastMS    int64 `json:"last_ms,omitempty"` // when it was last
	NextMS    int64 `json:"next_ms,omitempty"` // when it will be; 0 is never
}

// What becomes of the times at which the broker was not there.
const (
	MissedOnce = "once" // one message for all of them
	MissedSkip = "skip" // none
	MissedAll  = "all"  // one for each
)
