//! The page as a file, and the policy that lets a browser run nothing but it.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The page's text: style and script stand in it, and it needs nothing else.
const TEXT: &str = include_str!("dashboard.html");

/// The page, ready to be served.
#[derive(Debug, Clone)]
pub(in crate::control) struct DashboardHtml {
    csp: String,
}

impl DashboardHtml {
    /// The page with the policy for its style and script.
    pub(in crate::control) fn new() -> Self {
        Self { csp: csp(TEXT) }
    }

    /// The page as HTML in UTF-8.
    pub(in crate::control) const fn text() -> &'static str {
        TEXT
    }

    /// Its `Content-Security-Policy`.
    pub(in crate::control) fn csp(&self) -> &str {
        &self.csp
    }
}

/// Allows the page's own style and script by their hashes, its icon, and questions to where the
/// page came from; nothing else, and no other page may show it in a frame.
fn csp(page: &str) -> String {
    let hash = |tag| {
        let text = inside(page, tag).unwrap_or_default();
        STANDARD.encode(digest(&SHA256, text.as_bytes()))
    };
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash("style"),
        hash("script")
    )
}

/// What stands in the first element of that name, which has no attributes.
fn inside<'a>(page: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(&format!("<{tag}>"))?;
    rest.split_once(&format!("</{tag}>")).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_holds_the_hashes_of_style_and_script_as_they_stand() {
        // Made with: printf a | openssl dgst -sha256 -binary | base64
        let csp = csp("<style>a</style><script>b</script>");
        assert!(
            csp.contains("style-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='"),
            "{csp}"
        );
        assert!(
            csp.contains("script-src 'sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0='"),
            "{csp}"
        );
    }

    #[test]
    fn nothing_inline_is_allowed_without_its_hash() {
        assert!(!DashboardHtml::new().csp().contains("unsafe"));
    }

    #[test]
    fn the_page_has_one_style_one_script_and_nothing_from_elsewhere() {
        for tag in ["<style", "<script"] {
            assert_eq!(TEXT.matches(tag).count(), 1, "{tag}");
        }
        assert!(inside(TEXT, "style").is_some() && inside(TEXT, "script").is_some());
        for foreign in ["https://", "@import", "url(", "<link rel=\"stylesheet\"", "src="] {
            assert!(!TEXT.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn nothing_in_the_page_needs_an_exception_from_its_policy() {
        for refused in
            [" style=\"", " onclick=", "innerHTML", "outerHTML", "eval(", "document.write"]
        {
            assert!(!TEXT.contains(refused), "{refused}");
        }
    }
}
