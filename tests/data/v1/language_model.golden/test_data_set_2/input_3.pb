Bstate_01_c_inJ½ÓŒ>ÄÆK?Np?R©
?çot¾ý\[¿