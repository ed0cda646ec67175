Bstate_00_s_inJÄÆK?Np?R©
?çot¾