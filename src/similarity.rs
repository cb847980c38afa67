//! Finds the known word that a misspelled one was probably meant to be.

/// The candidate that is most similar to `word`; `None` if none is similar enough.
pub(crate) fn suggest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    /// Minimum similarity. Below it, suggestions confuse more often than they help.
    const ALIKE: f64 = 0.55;
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let alike = strsim::normalized_damerau_levenshtein(&word, &candidate.to_lowercase());
            (alike, candidate)
        })
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}
