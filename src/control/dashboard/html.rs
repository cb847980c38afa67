//! The HTML of the dashboard, and its Content Security Policy (CSP).

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The page, with inline style and script. It loads nothing else.
const TEXT: &str = concat!(
    include_str!("page/head.html"),
    "<style>\n",
    include_str!("page/page.css"),
    "</style>\n</head>\n",
    include_str!("page/body.html"),
    "<script>\n\"use strict\";\n(() => {\n",
    include_str!("page/format.js"),
    include_str!("page/tokens.js"),
    include_str!("page/activity.js"),
    include_str!("page/stream.js"),
    "})();\n</script>\n</body>\n</html>\n",
);

/// The page with its CSP.
#[derive(Debug, Clone)]
pub(in crate::control) struct DashboardHtml {
    csp: String,
}

impl DashboardHtml {
    /// Computes the CSP of the page.
    pub(in crate::control) fn new() -> Self {
        Self { csp: csp(TEXT) }
    }

    /// The page as HTML in UTF-8.
    pub(in crate::control) const fn text() -> &'static str {
        TEXT
    }

    /// The `Content-Security-Policy` header.
    pub(in crate::control) fn csp(&self) -> &str {
        &self.csp
    }
}

/// A CSP that allows the page's own style and script by their hashes, its icon, and requests to its
/// own origin. Forbids everything else, including framing.
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

/// The content of the first `<tag>` element without attributes.
fn inside<'a>(page: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(&format!("<{tag}>"))?;
    rest.split_once(&format!("</{tag}>")).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_csp_contains_the_hashes_of_style_and_script() {
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
    fn the_csp_allows_nothing_inline_without_a_hash() {
        assert!(!DashboardHtml::new().csp().contains("unsafe"));
    }

    #[test]
    fn the_page_has_one_style_one_script_and_no_external_resources() {
        for tag in ["<style", "<script"] {
            assert_eq!(TEXT.matches(tag).count(), 1, "{tag}");
        }
        assert!(inside(TEXT, "style").is_some() && inside(TEXT, "script").is_some());
        for foreign in ["https://", "@import", "url(", "<link rel=\"stylesheet\"", "src="] {
            assert!(!TEXT.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn the_page_needs_no_exception_from_its_csp() {
        for refused in
            [" style=\"", " onclick=", "innerHTML", "outerHTML", "eval(", "document.write"]
        {
            assert!(!TEXT.contains(refused), "{refused}");
        }
    }
}
