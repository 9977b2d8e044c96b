package destination

import (
	"encoding/json"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// Settings travel and are stored as a map of names to texts that holds only
// what differs from the default, so that a newer default reaches destinations
// that never asked for another.

// MarshalJSON writes the map.
func (s Settings) MarshalJSON() ([]byte, error) { return json.Marshal(s.Changes()) }

// UnmarshalJSON reads the map; what is not in it gets its default.
func (s *Settings) UnmarshalJSON(data []byte) error {
	var changes map[string]string
	if err := json.Unmarshal(data, &changes); err != nil {
		return err
	}
	return s.replace(changes)
}

// EncodeMsgpack writes the map.
func (s Settings) EncodeMsgpack(e *msgpack.Encoder) error { return e.Encode(s.Changes()) }

// DecodeMsgpack reads the map; what is not in it gets its default.
func (s *Settings) DecodeMsgpack(d *msgpack.Decoder) error {
	var changes map[string]string
	if err := d.Decode(&changes); err != nil {
		return err
	}
	return s.replace(changes)
}

// UnmarshalTOML reads a table of names, quoted or as nested tables, whose
// values may also be plain numbers and booleans.
func (s *Settings) UnmarshalTOML(data any) error {
	table, ok := data.(map[string]any)
	if !ok {
		return fmt.Errorf("settings: a table is needed, not %T", data)
	}
	changes := map[string]string{}
	if err := flatten(changes, "", table); err != nil {
		return err
	}
	return s.replace(changes)
}

// flatten joins the names of nested tables with dots: in TOML,
// retention.ms = 5 is a table retention with a key ms.
func flatten(changes map[string]string, prefix string, table map[string]any) error {
	for name, v := range table {
		switch v := v.(type) {
		case map[string]any:
			if err := flatten(changes, prefix+name+".", v); err != nil {
				return err
			}
		case string, int64, float64, bool:
			changes[prefix+name] = fmt.Sprint(v)
		default:
			return fmt.Errorf("%s%s: %w: %T", prefix, name, ErrSettingValue, v)
		}
	}
	return nil
}

func (s *Settings) replace(changes map[string]string) error {
	read, err := SettingsFrom(changes)
	if err != nil {
		return err
	}
	*s = read
	return nil
}
