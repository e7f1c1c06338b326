//! One seed for each broken variant, which finds it.

use super::campaign::run;
use super::variants::Variant;

#[test]
#[ignore = "looks for seeds"]
fn seeds_that_find_the_variants() {
    for variant in Variant::ALL {
        let found = (0..3_000).find_map(|seed| Some((seed, run(seed, Some(variant)).err()?)));
        let (seed, what) = found.map_or((None, String::new()), |(seed, what)| (Some(seed), what));
        println!(
            "{variant:?}: {seed:?} {}",
            what.lines().next().unwrap_or("")
        );
    }
}
