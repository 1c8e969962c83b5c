//! Every file of every corpus through its target.

use std::path::Path;

#[test]
fn the_corpora_find_nothing() {
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
            assert!(outcome.is_ok(), "{} is a finding", path.display());
        }
        assert!(count > 0, "the corpus of {name} is empty");
    }
}
