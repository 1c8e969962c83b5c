//! The oracle against a model that writes, dies at any point, and loses things.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::pattern::Pattern;

/// Both places as they are after so many steps. Each record takes four steps: half of it on the
/// device, all of it there, half of it in the files, all of it there.
fn after(raw: Slots, file: Slots, steps: u64) -> Survey {
    let mut survey = Survey {
        raw: vec![Found::Nothing; raw.count as usize],
        file: vec![Found::Nothing; file.count as usize],
    };
    for step in 0..steps {
        let number = step / 4 + 1;
        match step % 4 {
            0 => survey.raw[raw.of(number) as usize] = Found::Corrupt,
            1 => survey.raw[raw.of(number) as usize] = Found::Record(number),
            2 => survey.file[file.of(number) as usize] = Found::Corrupt,
            _ => survey.file[file.of(number) as usize] = Found::Record(number),
        }
    }
    survey
}

fn slots() -> impl Strategy<Value = (Slots, Slots)> {
    let pattern =
        proptest::sample::select(vec![Pattern::Append, Pattern::Random, Pattern::RewriteHot]);
    (pattern, any::<u64>(), 1u64..40, 1u64..20).prop_map(|(pattern, seed, raw, file)| {
        (
            Slots {
                pattern,
                seed,
                count: raw,
            },
            Slots {
                pattern,
                seed: !seed,
                count: file,
            },
        )
    })
}

proptest! {
    #[test]
    fn a_crash_at_any_point_loses_nothing((raw, file) in slots(), steps in 0u64..400, lag in 0u64..20) {
        let survey = after(raw, file, steps);
        let complete = steps / 4;
        let verdict = judge(raw, file, &survey, complete.saturating_sub(lag), Moment::AfterCrash);
        prop_assert_eq!(verdict.losses, vec![]);
        // Never more than was written; a record that was overwritten half may hide the one before it.
        prop_assert!(verdict.highest <= complete + 1);
        prop_assert!(verdict.highest + lag >= complete);
    }

    #[test]
    fn at_rest_all_is_exact((raw, file) in slots(), records in 0u64..100) {
        let verdict = judge(raw, file, &after(raw, file, records * 4), records, Moment::AtRest);
        prop_assert_eq!(verdict, Verdict { highest: records, losses: vec![] });
    }

    #[test]
    fn an_announced_record_that_is_gone_is_reported(
        (raw, file) in slots(), records in 1u64..100, torn in 0u64..4, which: Index, on_device: bool, back in 1u64..50,
    ) {
        let mut survey = after(raw, file, records * 4 + torn);
        let (slots, place) = if on_device { (raw, Place::Raw) } else { (file, Place::File) };
        let newest = slots.newest(records);
        let held: Vec<usize> = (0..newest.len()).filter(|slot| newest[*slot] > 0).collect();
        let slot = held[which.index(held.len())];
        let cells = if on_device { &mut survey.raw } else { &mut survey.file };
        prop_assume!(cells[slot] == Found::Record(newest[slot]));
        // The slot goes back to an older record of its own, or to nothing.
        let older = newest[slot].saturating_sub(back);
        let older = (1..=older).rev().find(|number| slots.of(*number) == slot as u64);
        cells[slot] = older.map_or(Found::Nothing, Found::Record);
        let found = cells[slot];
        let verdict = judge(raw, file, &survey, records, Moment::AfterCrash);
        let expected = newest[slot];
        prop_assert_eq!(verdict.losses, vec![Loss { place, slot: slot as u64, found, expected }]);
    }

    #[test]
    fn a_corrupt_slot_is_reported_unless_a_record_was_under_way_there(
        (raw, file) in slots(), records in 1u64..100, which: Index,
    ) {
        let mut survey = after(raw, file, records * 4);
        let held: Vec<usize> = (0..survey.raw.len()).filter(|slot| survey.raw[*slot] != Found::Nothing).collect();
        let slot = held[which.index(held.len())];
        survey.raw[slot] = Found::Corrupt;
        let reported = |moment| !judge(raw, file, &survey, records, moment).losses.is_empty();
        prop_assert!(reported(Moment::AtRest));
        prop_assert_eq!(reported(Moment::AfterCrash), raw.of(records + 1) != slot as u64);
    }

    /// The newest record that is found proves the ones before it, announced or not.
    #[test]
    fn a_gap_before_an_unannounced_record_is_reported((raw, file) in slots(), records in 2u64..100) {
        let mut survey = after(raw, file, records * 4);
        let slot = file.of(records - 1) as usize;
        prop_assume!(file.of(records) as usize != slot);
        survey.file[slot] = Found::Nothing;
        prop_assert_eq!(judge(raw, file, &survey, 0, Moment::AfterCrash).losses.len(), 1);
    }
}

#[test]
fn a_record_in_a_foreign_slot_is_reported() {
    let slots = Slots {
        pattern: Pattern::Append,
        seed: 0,
        count: 8,
    };
    let mut survey = after(slots, slots, 16);
    survey.raw[6] = Found::Misplaced(2);
    let verdict = judge(slots, slots, &survey, 4, Moment::AtRest);
    assert_eq!(verdict.losses.len(), 1);
    assert_eq!(verdict.losses[0].found.to_string(), "misplaced-2");
}
