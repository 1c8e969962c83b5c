//! Every file of every corpus through its target.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Also of tasks, whose panics would otherwise stay unseen here; the fuzzer sees them by itself.
static PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn the_corpora_find_nothing() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        usual(panic);
    }));
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, target) in drover_hostile::TARGETS {
        let files = std::fs::read_dir(corpora.join(name));
        let files = files.unwrap_or_else(|error| panic!("the corpus of {name}: {error}"));
        let mut count = 0;
        for file in files {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            count += 1;
            let outcome = std::panic::catch_unwind(|| target(&bytes));
            let panics = PANICS.load(Ordering::Relaxed);
            assert!(
                outcome.is_ok() && panics == 0,
                "{} is a finding",
                path.display()
            );
        }
        assert!(count > 0, "the corpus of {name} is empty");
    }
}
