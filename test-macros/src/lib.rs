//! The attribute `#[privileged]` of tests that need root.

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// A test that runs as root only. Where it cannot run, `gpuos_testprogs::privileged` is asked what to do about it, with the
/// name of the test: it says no, or that it must run.
#[proc_macro_attribute]
pub fn privileged(_options: TokenStream, function: TokenStream) -> TokenStream {
    let mut tokens: Vec<TokenTree> = function.into_iter().collect();
    let name = name_of(&tokens);
    let Some(TokenTree::Group(body)) = tokens.pop().filter(is_block) else {
        return error("`#[privileged]` stands before a function with a body");
    };
    let guard: Result<TokenStream, _> =
        format!("if !::gpuos_testprogs::privileged(concat!(module_path!(), \"::{name}\")) {{ return; }}").parse();
    let test: Result<TokenStream, _> = "#[test]".parse();
    let (Ok(mut guarded), Ok(mut output)) = (guard, test) else { return error("`#[privileged]` made no tokens") };
    // A block of its own, so that what the body declares stands at a beginning.
    guarded.extend([TokenTree::Group(body.clone())]);
    let mut block = Group::new(Delimiter::Brace, guarded);
    block.set_span(body.span());
    output.extend(tokens);
    output.extend([TokenTree::Group(block)]);
    output
}

fn is_block(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

/// The word after `fn`.
fn name_of(tokens: &[TokenTree]) -> String {
    let mut words = tokens.iter().skip_while(|token| token.to_string() != "fn");
    words.nth(1).map(ToString::to_string).unwrap_or_default()
}

fn error(message: &str) -> TokenStream {
    format!("compile_error!({message:?});").parse().unwrap_or_default()
}
